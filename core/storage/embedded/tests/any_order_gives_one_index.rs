//! The folds commute; so must an engine that stores them.

use model::example::{history, redelivered};
use proptest::prelude::*;
use storage_embedded::Embedded;
use storage_ports::contract;

proptest! {
    // Each case writes hundreds of durable transactions.
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_order_and_any_repetition_gives_one_index(
        seed in any::<u64>(),
        delivery in any::<u64>(),
        calls in 1_usize..12,
    ) {
        let sent = history(seed, calls);
        let delivered = redelivered(delivery, &sent);
        let dir = tempfile::tempdir().unwrap();
        let index = Embedded::open(dir.path()).unwrap().index();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(contract::any_order_gives_one_index(&*index, &delivered, &sent));
    }
}
