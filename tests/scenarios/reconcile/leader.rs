//! The lead on a real Lease.

use evp_operator::clock::SystemClock;
use evp_operator::leader::Election;
use tokio_util::sync::CancellationToken;

use super::world::World;

#[tokio::test]
#[ignore = "bed"]
async fn one_of_two_leads_and_the_other_follows_at_once_when_the_lease_is_given_back() {
    let world = World::new("lead").await;
    let clock = SystemClock::shared();
    let client = world.bed.admin().await;
    let election =
        |me: &str| Election::new(client.clone(), &world.namespace, "evp", me, clock.clone());
    let (mut one, mut two) = (election("one"), election("two"));
    one.win().await;
    let stop = CancellationToken::new();
    let waited = tokio::select! {
        () = two.win() => false,
        _ = one.hold(stop.clone()) => false,
        () = tokio::time::sleep(std::time::Duration::from_secs(5)) => true,
    };
    assert!(waited, "two lead, or the one has lost the lead");
    stop.cancel();
    assert!(one.hold(stop).await, "the lease is not given back");
    two.win().await;
    assert_eq!(
        world.kubectl(&[
            "get",
            "lease",
            "evp",
            "-o",
            "jsonpath={.spec.holderIdentity}"
        ]),
        "two"
    );
}

#[tokio::test]
#[ignore = "bed"]
async fn a_leader_whose_lease_another_took_stops() {
    let world = World::new("lost").await;
    let client = world.bed.admin().await;
    let mut one = Election::new(
        client,
        &world.namespace,
        "evp",
        "one",
        SystemClock::shared(),
    );
    one.win().await;
    world.kubectl(&[
        "patch",
        "lease",
        "evp",
        "--type=merge",
        "-p",
        r#"{"spec":{"holderIdentity":"two"}}"#,
    ]);
    assert!(!one.hold(CancellationToken::new()).await, "it leads on");
}
