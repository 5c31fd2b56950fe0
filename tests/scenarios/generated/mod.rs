//! Files that are made from others and kept in the tree: each is compared with what it is made from. `UPDATE_EXPECT=1` writes
//! them anew.

mod chart;
mod crd;
mod reasons;
mod semantics;

use std::path::{Path, PathBuf};

/// A path below the top of the checkout.
pub(crate) fn top(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The file holds this text; with `UPDATE_EXPECT=1` it is made to.
#[track_caller]
pub(crate) fn expect_file(path: &str, wanted: &str) {
    let file = top(path);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == wanted,
        "{path} is not up to date: UPDATE_EXPECT=1 cargo test -p evp-tests --test scenarios generated"
    );
}
