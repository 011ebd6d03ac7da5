//! What a search finds, and how its pages join.

use model::recording::Status;
use model::search::SearchQuery;
use model::{EventBody, Personal, WallTime};

use super::scene::{Scene, query};
use crate::RecordingIndex;

pub async fn searches(index: &dyn RecordingIndex) {
    pages_join_without_gap_or_repetition(index).await;
    a_search_is_limited_by_time_status_and_length(index).await;
    every_word_of_a_search_has_to_be_found(index).await;
    a_number_is_found_however_it_is_written(index).await;
    a_number_is_found_as_dialled_and_in_full(index).await;
    an_address_is_found_whole_and_in_part(index).await;
    a_search_text_is_never_a_pattern(index).await;
    a_search_finds_what_is_known_last(index).await;
    a_party_is_searched_among_the_participants_only(index).await;
    the_calls_of_a_user_are_those_that_an_address_names(index).await;
}

async fn pages_join_without_gap_or_repetition(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let mut ids = Vec::new();
    for number in 0..7 {
        let id = scene.new_id();
        let mut start = scene.event(scene.started(id));
        // Two and three start in the same millisecond.
        start.at = WallTime::from_unix_ms(1_800_000_000_000 + [0, 1, 1, 2, 2, 2, 3][number]);
        index.apply(&start).await.unwrap();
        ids.push((start.at, id));
    }
    ids.sort_by(|a, b| b.cmp(a));
    let ids: Vec<_> = ids.into_iter().map(|(_, id)| id).collect();
    for limit in [1, 2, 3, 7, 8, 1_000] {
        assert_eq!(scene.find(SearchQuery { limit, ..query() }).await, ids, "limit {limit}");
    }
    let exact = SearchQuery { limit: 7, ..query() };
    assert_eq!(index.search(&scene.tenant, &exact).await.unwrap().next, None);
    let first = index.search(&scene.tenant, &SearchQuery { limit: 3, ..query() }).await.unwrap();
    scene.start().await;
    let after = SearchQuery { limit: 1_000, after: first.next, ..query() };
    let rest = scene.find(after).await;
    assert!(rest.starts_with(&ids[3..]), "a new call does not move the pages");
}

async fn a_search_is_limited_by_time_status_and_length(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let short = scene.start().await;
    let short_at = scene.at;
    let long = scene.start().await;
    let long_at = scene.at;
    let open = scene.start().await;
    scene.tell(scene.ended(short, 59_999)).await;
    scene.tell(scene.ended(long, 60_000)).await;
    let found = async |query: SearchQuery| scene.find(query).await;
    assert_eq!(found(SearchQuery { from: Some(long_at), ..query() }).await, [open, long]);
    assert_eq!(found(SearchQuery { to: Some(long_at), ..query() }).await, [short]);
    let between = SearchQuery { from: Some(short_at), to: Some(long_at), ..query() };
    assert_eq!(found(between).await, [short]);
    assert_eq!(found(SearchQuery { min_seconds: Some(60), ..query() }).await, [long]);
    assert_eq!(found(SearchQuery { min_seconds: Some(0), ..query() }).await, [long, short]);
    let status = |status| SearchQuery { status: Some(status), ..query() };
    assert_eq!(found(status(Status::Recording)).await, [open]);
    assert_eq!(found(status(Status::Finalizing)).await, [long, short]);
    assert_eq!(found(status(Status::Deleted)).await, []);
}

async fn every_word_of_a_search_has_to_be_found(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let eva = scene.start_with(&[("Eva Novák", "sip:eva@pbx"), ("Łukasz", "sip:lu@pbx")]).await;
    let ivan = scene.start_with(&[("Ivan Novak", "sip:ivan@pbx"), ("李小龍", "sip:li@pbx")]).await;
    let both = vec![ivan, eva];
    for (text, expected) in [
        ("novak", both.clone()),
        ("NOVÁK", both.clone()),
        ("  novak\teva ", vec![eva]),
        ("ova", both.clone()),
        ("va", both.clone()),
        ("lukasz", vec![eva]),
        ("lukasz ivan", vec![]),
        ("eva novak lu", vec![eva]),
        ("小龍", vec![ivan]),
        ("李小龍", vec![ivan]),
        ("novakeva", vec![]),
        ("", both.clone()),
        ("   ", both),
    ] {
        assert_eq!(scene.find_text(text).await, expected, "{text:?}");
    }
    assert_eq!(scene.find_text(&format!("call-of-{eva}")).await, [eva]);
    assert_eq!(scene.find_text(&eva.to_string()).await, [eva]);
    scene.tell(scene.ended(eva, 1)).await;
    assert_eq!(scene.find_text("novak").await, [ivan, eva], "an event that tells no names");
}

async fn a_number_is_found_however_it_is_written(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id =
        scene.start_with(&[("Eva", "sip:+386-1-2345678@pbx"), ("Ivan", "tel:7001;ext=9")]).await;
    for text in ["3861234567", "+386-1-2345678", "+386 1 234 56 78", "(1) 234.5678", "7001", "12"] {
        assert_eq!(scene.find_text(text).await, [id], "{text:?}");
    }
    assert_eq!(scene.find_text("7001 eva").await, [id], "a number and a name");
    assert_eq!(scene.find_text("7001 5678").await, [id], "two numbers");
    assert_eq!(scene.find_text("7001999999999999").await, []);
}

async fn a_number_is_found_as_dialled_and_in_full(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    let mut told = scene.facts(id, &[("Eva", "sip:02079460123@pbx")]);
    let EventBody::Metadata { facts, .. } = &mut told else { panic!("{told:?}") };
    facts.participants[0].number = Some(Personal::from("+442079460123"));
    scene.tell(told).await;
    for text in ["02079460123", "020 7946 0123", "+44 20 7946 0123", "442079460123"] {
        assert_eq!(scene.find_text(text).await, [id], "{text:?}");
    }
    assert_eq!(scene.find_text("+3862079460123").await, []);
}

async fn an_address_is_found_whole_and_in_part(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let parties = [("Eva", "sip:Eva.Novak@pbx.example"), ("", "sips:+386-1-2345678@gw;user=phone")];
    let id = scene.start_with(&parties).await;
    let other = scene.start_with(&[("", "sip:evan@pbx.example"), ("", "sip:12@gw")]).await;
    for text in [
        "sip:eva.novak@pbx.example",
        "novak@pbx",
        "sip:eva.",
        "sips:+386-1-2345678@gw;user=phone",
        "SIPS:+386-1",
        "5678@gw",
        "eva.novak@ 12345678",
    ] {
        assert_eq!(scene.find_text(text).await, [id], "{text:?}");
    }
    assert_eq!(scene.find_text("sip:eva").await, [other, id]);
    assert_eq!(scene.find_text("@pbx.example").await, [other, id]);
    assert_eq!(scene.find_text("sip:12@gw").await, [other]);
    assert_eq!(scene.find_text("eva.novak@gw").await, []);
}

async fn a_search_text_is_never_a_pattern(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start_with(&[("Q\"uote% O'Neil_ \\x*", "sip:a@b")]).await;
    scene.start_with(&[("plain", "sip:c@d")]).await;
    for text in ["q\"uote", "\"", "%", "uote%", "o'neil", "'", "neil_", "\\x*", "\\"] {
        assert_eq!(scene.find_text(text).await, [id], "{text:?}");
    }
    for text in ["plain OR quote", "pl%in", "plai*", "pla?n", "text:plain", "-", "\0", "pl\0ain"] {
        let found = scene.find_text(text).await;
        assert!(found.len() != 1, "{text:?} was read as a pattern");
    }
}

async fn a_search_finds_what_is_known_last(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start_with(&[("First Guess", "sip:guess@pbx")]).await;
    scene.tell(scene.facts(id, &[("Eva Novák", "sip:eva@pbx")])).await;
    assert_eq!(scene.find_text("novak").await, [id]);
    assert_eq!(scene.find_text("guess").await, [], "a name that was corrected");
}

async fn a_party_is_searched_among_the_participants_only(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start_with(&[("Eva Novák", "sip:+386-1-234@pbx")]).await;
    let party = async |text: &str| {
        scene.find(SearchQuery { party: Some(text.to_owned()), ..query() }).await
    };
    for text in ["Novák", "eva novak", "ev", "386 1 234", "+386-1-234@pbx", "%", ""] {
        let expected = if text == "%" { vec![] } else { vec![id] };
        assert_eq!(party(text).await, expected, "{text:?}");
    }
    assert_eq!(party("call-of-").await, []);
}

async fn the_calls_of_a_user_are_those_that_an_address_names(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let first = scene.start_with(&[("Eva", "sip:eva@pbx"), ("", "sip:+38611@gw")]).await;
    scene.start_with(&[("eva", "sip:evan@pbx"), ("", "tel:7001")]).await;
    let second = scene.start_with(&[("", "SIPS:Eva;x=1@pbx"), ("", "sip:7001@pbx")]).await;
    let user =
        async |user: &str| scene.find(SearchQuery { user: Some(user.to_owned()), ..query() }).await;
    assert_eq!(user("eva").await, [second, first]);
    assert_eq!(user("EVA").await, [second, first]);
    assert_eq!(user("7001").await, [second], "a telephone number is nobody");
    for nobody in ["ev", "eva@pbx", "+38611", "%", ""] {
        assert_eq!(user(nobody).await, [], "{nobody:?}");
    }
    let group = SearchQuery { group: Some("sales".to_owned()), ..query() };
    assert_eq!(scene.find(group).await, []);
}
