//! The CustomResourceDefinition, beside the types it is made from.

use super::expect_file;

#[test]
fn the_crd_is_what_the_types_say() {
    let crd = evp_api::crd::event_pipeline().unwrap();
    let text = serde_saphyr::to_string(&crd).unwrap();
    expect_file("crds/eventpipelines.yaml", &text);
    // The chart carries a copy.
    expect_file("charts/evp/files/crds/eventpipelines.yaml", &text);
}
