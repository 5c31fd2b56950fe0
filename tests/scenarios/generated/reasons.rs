//! The catalogue of reasons as a page.

use std::fmt::Write;

use super::expect_file;

#[test]
fn the_page_of_reasons_lists_the_catalogue() {
    let mut page = String::from(
        "# Reasons\n\nThe words that conditions of an `EventPipeline`, reports of its worker and Kubernetes Events give as their\n\
         reason. What to do is in the condition's message: `kubectl describe evp NAME`. Made from `crds/src/reason.rs`.\n\n\
         | reason | meaning |\n|---|---|\n",
    );
    for (reason, meaning) in evp_api::reason::ALL {
        writeln!(page, "| `{reason}` | {} |", meaning.trim()).unwrap();
    }
    expect_file("docs/reference/reasons.md", &page);
}
