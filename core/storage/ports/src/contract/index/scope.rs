//! What a search with a scope finds: calls of the scope's addresses, each while it was owned.

use model::attribution::{Address, Assignment, Term};
use model::search::SearchQuery;
use model::{RecordingId, WallTime};

use super::scene::{Scene, query};
use crate::RecordingIndex;

pub async fn scopes(index: &dyn RecordingIndex) {
    a_scope_shows_the_calls_of_its_addresses_and_no_other(index).await;
    an_address_shows_calls_only_while_it_was_owned(index).await;
    a_scope_and_a_question_hold_together(index).await;
    pages_of_a_scope_join_and_tell_nothing_of_what_is_outside(index).await;
    a_corrected_address_moves_the_call(index).await;
}

fn owned(address: &str, from: Option<WallTime>, until: Option<WallTime>) -> Assignment {
    let address = Address::new(address).expect("an extension, a name or a number");
    Assignment { address, term: Term { from, until } }
}

fn always(addresses: &[&str]) -> Option<Vec<Assignment>> {
    Some(addresses.iter().map(|address| owned(address, None, None)).collect())
}

async fn within(scene: &Scene<'_>, addresses: &[&str]) -> Vec<RecordingId> {
    scene.find(SearchQuery { scope: always(addresses), ..query() }).await
}

async fn a_scope_shows_the_calls_of_its_addresses_and_no_other(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let ana = scene.start_with(&[("Ana", "sip:ana@pbx"), ("", "sip:+38612345678@gw")]).await;
    let desk = scene.start_with(&[("", "SIPS:7001;x=1@pbx"), ("", "tel:+386-1-234-5679")]).await;
    // A caller chooses the name that is shown.
    scene.start_with(&[("sip:ana@pbx", "sip:eve@gw"), ("7001", "sip:ev@gw")]).await;
    scene.start_with(&[("+38612345678", "sip:anan@pbx"), ("", "sip:70011@pbx")]).await;
    let both = scene.start_with(&[("", "sip:ana@pbx"), ("", "sip:7001@pbx")]).await;
    assert_eq!(within(&scene, &["ana"]).await, [both, ana]);
    assert_eq!(within(&scene, &["ANA", "7001"]).await, [both, desk, ana]);
    assert_eq!(within(&scene, &["+38612345678"]).await, [ana]);
    assert_eq!(within(&scene, &["+386 1 234 5679"]).await, [desk]);
    assert_eq!(within(&scene, &["+38612"]).await, [], "the beginning of a number is none");
    assert_eq!(within(&scene, &["nobody"]).await, []);
    assert_eq!(within(&scene, &[]).await, [], "whoever owns nothing sees nothing");
    let stranger = Scene::new(index);
    assert_eq!(within(&stranger, &["ana", "7001"]).await, [], "another tenant");
}

async fn an_address_shows_calls_only_while_it_was_owned(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let mut calls = Vec::new();
    for _ in 0..3 {
        let id = scene.new_id();
        let start = scene.event(scene.started(id));
        scene.tell_again(&start).await;
        scene.tell(scene.facts(id, &[("", "sip:7001@pbx"), ("", "sip:+38612345678@gw")])).await;
        calls.push((start.at, id));
    }
    let [(first, a), (second, b), (third, c)] = calls[..] else { unreachable!("there are three") };
    for address in ["7001", "+38612345678"] {
        let found = async |from, until| {
            let scope = Some(vec![owned(address, from, until)]);
            scene.find(SearchQuery { scope, ..query() }).await
        };
        assert_eq!(found(None, None).await, [c, b, a]);
        assert_eq!(found(Some(second), None).await, [c, b]);
        assert_eq!(found(None, Some(third)).await, [b, a], "not any more at its end");
        assert_eq!(found(Some(second), Some(third)).await, [b]);
        assert_eq!(found(Some(third), Some(first)).await, [], "it ends before it begins");
    }
    let before_and_after =
        Some(vec![owned("7001", None, Some(second)), owned("7001", Some(third), None)]);
    assert_eq!(scene.find(SearchQuery { scope: before_and_after, ..query() }).await, [c, a]);
    let scope = always(&["7001"]);
    let limited = SearchQuery { scope, from: Some(second), to: Some(third), ..query() };
    assert_eq!(scene.find(limited).await, [b]);
}

async fn a_scope_and_a_question_hold_together(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let novak =
        scene.start_with(&[("Eva Novák", "sip:+38612345678@gw"), ("", "sip:ana@pbx")]).await;
    scene.start_with(&[("Eva Novák", "sip:+38612345678@gw"), ("", "sip:leo@pbx")]).await;
    let other = scene.start_with(&[("Tom", "sip:tom@gw"), ("", "sip:ana@pbx")]).await;
    let ask = async |query: SearchQuery| {
        scene.find(SearchQuery { scope: always(&["ana"]), ..query }).await
    };
    let text = |q: &str| SearchQuery { q: Some(q.to_owned()), ..query() };
    assert_eq!(ask(text("novak")).await, [novak]);
    assert_eq!(ask(text("+386 1 234 5678")).await, [novak]);
    assert_eq!(ask(text("leo")).await, []);
    let party = SearchQuery { party: Some("tom".to_owned()), ..query() };
    assert_eq!(ask(party).await, [other]);
    let live = SearchQuery { status: Some(model::Status::Recording), ..query() };
    assert_eq!(ask(live).await, [other, novak]);
    let stored = SearchQuery { status: Some(model::Status::Stored), ..query() };
    assert_eq!(ask(stored).await, []);
}

async fn pages_of_a_scope_join_and_tell_nothing_of_what_is_outside(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let mut ids = Vec::new();
    for n in 0..7 {
        let aor = format!("sip:{}@pbx", if n % 2 == 0 { "7001" } else { "7002" });
        ids.push(scene.start_with(&[("", &aor), ("", "sip:both@pbx")]).await);
        scene.start_with(&[("", "sip:7003@pbx")]).await;
    }
    ids.reverse();
    for limit in [1, 2, 3, 7, 8] {
        let scope = always(&["7001", "7002", "both"]);
        let found = scene.find(SearchQuery { scope, limit, ..query() }).await;
        assert_eq!(found, ids, "limit {limit}");
    }
    // As many as there are in scope: nothing follows, although the tenant has older calls.
    let exact = SearchQuery { scope: always(&["7001", "7002"]), limit: 7, ..query() };
    let page = index.search(&scene.tenant, &exact).await.unwrap();
    assert_eq!((page.items.len(), page.next), (7, None));
    let nothing = SearchQuery { scope: always(&["7004"]), limit: 1, ..query() };
    let page = index.search(&scene.tenant, &nothing).await.unwrap();
    assert_eq!((page.items.len(), page.next), (0, None));
}

async fn a_corrected_address_moves_the_call(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start_with(&[("", "sip:ana@pbx")]).await;
    scene.tell(scene.facts(id, &[("", "sip:leo@pbx")])).await;
    assert_eq!(within(&scene, &["ana"]).await, []);
    assert_eq!(within(&scene, &["leo"]).await, [id]);
}
