//! Many cases of one law, some at a time.

use std::future::Future;

use futures::StreamExt;

/// Pipelines that run side by side.
const AT_ONCE: usize = 4;

/// Runs each case by its name; stops the test with the names of those that fail.
pub(super) async fn all_hold<F>(cells: impl IntoIterator<Item = (String, F)>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut count = 0;
    let failed: Vec<String> = futures::stream::iter(cells)
        .map(|(name, cell)| {
            count += 1;
            let done = tokio::spawn(cell);
            async move { done.await.is_err().then_some(name) }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |failed| failed)
        .collect()
        .await;
    assert!(
        failed.is_empty(),
        "{} of {count} cells: {failed:#?}",
        failed.len()
    );
}
