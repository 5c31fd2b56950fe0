//! Laws of the rollout.

use serde_json::json;

use super::*;
use crate::build::tests::{built, owner, spec, spec_json};

/// The world in which a spec runs.
fn running(spec: &EventPipelineSpec) -> Observed {
    let children = built(spec);
    Observed {
        deployment: Some(children.deployment),
        service_account: Some(children.service_account),
        config_maps: vec![children.config_map],
    }
}

fn other_window() -> EventPipelineSpec {
    let mut json = spec_json();
    json["steps"][1]["aggregate"]["window"]["tumbling"]["size"] = json!("10m");
    serde_json::from_value(json).unwrap()
}

fn other_interval() -> EventPipelineSpec {
    let mut spec = spec();
    spec.checkpoint.interval = "5s".into();
    spec
}

fn suspended(mut spec: EventPipelineSpec) -> EventPipelineSpec {
    spec.suspend = true;
    spec
}

#[track_caller]
fn check(spec: &EventPipelineSpec, observed: &Observed, wanted: fn(&Action) -> bool) {
    let action = next(&owner(), Ok(spec), observed);
    assert!(wanted(&action), "{action:?}");
}

#[test]
fn nothing_there_is_created() {
    check(&spec(), &Observed::default(), |a| *a == Action::Create);
}

#[test]
fn nothing_there_and_suspended_is_created_without_pods() {
    check(&suspended(spec()), &Observed::default(), |a| {
        *a == Action::Suspend(None)
    });
}

#[test]
fn the_same_pipeline_is_kept_with_its_facts() {
    let observed = running(&spec());
    let facts = rolled(observed.deployment.as_ref().unwrap()).unwrap();
    assert_eq!(next(&owner(), Ok(&spec()), &observed), Action::Keep(facts));
}

#[test]
fn hot_changes_replace_no_pod() {
    let mut hot = spec();
    hot.objectives.max_dead_letter_percent = 9;
    check(&hot, &running(&spec()), |a| matches!(a, Action::Keep(_)));
}

#[test]
fn a_rolling_change_rolls_and_names_itself() {
    check(
        &other_interval(),
        &running(&spec()),
        |a| matches!(a, Action::Roll(changes) if changes[0].path == "spec.checkpoint.interval"),
    );
}

#[test]
fn a_change_of_the_pods_alone_rolls() {
    let mut bigger = spec();
    bigger.workers.resources.limits.memory = Some("1Gi".into());
    check(
        &bigger,
        &running(&spec()),
        |a| matches!(a, Action::Roll(changes) if changes[0].path == "spec.workers.resources.limits.memory"),
    );
}

#[test]
fn a_change_that_destroys_state_is_held_with_field_old_and_new_value() {
    let Action::Hold(Hold::StateIncompatible(changes)) =
        next(&owner(), Ok(&other_window()), &running(&spec()))
    else {
        panic!("it is not held");
    };
    let told: Vec<_> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["spec.steps[revenue].aggregate.window.tumbling.size: 5m -> 10m"]
    );
}

#[test]
fn only_the_incompatible_ones_of_several_changes_are_held_up_to_a_person() {
    let mut both = other_window();
    both.checkpoint.interval = "5s".into();
    check(
        &both,
        &running(&spec()),
        |a| matches!(a, Action::Hold(Hold::StateIncompatible(changes)) if changes.len() == 1),
    );
}

#[test]
fn a_raised_nonce_lets_an_incompatible_change_roll_once() {
    let mut raised = other_window();
    raised.reset_nonce = 1;
    check(&raised, &running(&spec()), |a| matches!(a, Action::Roll(_)));
    let mut again = raised.clone();
    again.steps[1].aggregate.as_mut().unwrap().group_by = vec!["order_id".into()];
    check(&again, &running(&raised), |a| {
        matches!(a, Action::Hold(Hold::StateIncompatible(_)))
    });
}

#[test]
fn no_nonce_lets_positions_speak_of_another_log() {
    let mut other = other_window();
    other.reset_nonce = 1;
    other.sources[0].kafka.as_mut().unwrap().topic = "other".into();
    check(
        &other,
        &running(&spec()),
        |a| matches!(a, Action::Hold(Hold::StateIncompatible(changes)) if changes.len() == 1),
    );
}

#[test]
fn reverting_an_incompatible_change_keeps_the_pods() {
    check(&spec(), &running(&spec()), |a| matches!(a, Action::Keep(_)));
}

#[test]
fn a_spec_with_findings_is_held_whatever_runs() {
    for observed in [Observed::default(), running(&spec())] {
        let action = next(&owner(), Err(&Vec::new()), &observed);
        assert_eq!(action, Action::Hold(Hold::NotAccepted(Vec::new())));
    }
}

#[test]
fn suspend_stops_the_pods_and_keeps_the_facts() {
    check(&suspended(spec()), &running(&spec()), |a| {
        matches!(a, Action::Suspend(Some(_)))
    });
    check(&suspended(other_interval()), &running(&spec()), |a| {
        *a == Action::Suspend(None)
    });
}

#[test]
fn an_incompatible_change_is_held_even_when_suspended() {
    check(&suspended(other_window()), &running(&spec()), |a| {
        matches!(a, Action::Hold(Hold::StateIncompatible(_)))
    });
}

#[test]
fn resuming_takes_the_facts_anew() {
    let mut observed = running(&spec());
    let deployment = observed.deployment.as_mut().unwrap();
    deployment.spec.as_mut().unwrap().replicas = Some(0);
    check(&spec(), &observed, |a| *a == Action::Roll(Vec::new()));
}

#[test]
fn without_the_old_config_map_the_worker_judges() {
    let mut observed = running(&spec());
    observed.config_maps.clear();
    check(&spec(), &observed, |a| matches!(a, Action::Keep(_)));
    check(&other_window(), &observed, |a| {
        *a == Action::Roll(Vec::new())
    });
}

#[test]
fn children_of_a_deleted_namesake_are_waited_for_and_never_adopted() {
    let again = Owner {
        uid: "uid-2".into(),
        ..owner()
    };
    assert_eq!(next(&again, Ok(&spec()), &running(&spec())), Action::Wait);
    let only_account = Observed {
        deployment: None,
        ..running(&spec())
    };
    assert_eq!(next(&again, Ok(&spec()), &only_account), Action::Wait);
}

#[test]
fn a_child_that_is_being_deleted_is_waited_for() {
    let mut observed = running(&spec());
    let now = jiff::Timestamp::UNIX_EPOCH;
    observed
        .deployment
        .as_mut()
        .unwrap()
        .metadata
        .deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    check(&spec(), &observed, |a| *a == Action::Wait);
}

#[test]
fn a_foreign_object_of_our_name_is_left_alone_and_named() {
    let mut observed = running(&spec());
    observed
        .service_account
        .as_mut()
        .unwrap()
        .metadata
        .owner_references = None;
    let Action::Hold(Hold::NameTaken(message)) = next(&owner(), Ok(&spec()), &observed) else {
        panic!("it is taken over");
    };
    assert!(
        message.starts_with("ServiceAccount shop/orders exists"),
        "{message}"
    );
}

#[test]
fn old_config_maps_are_obsolete_only_when_the_roll_is_over() {
    let mut observed = running(&spec());
    observed
        .config_maps
        .push(built(&other_interval()).config_map);
    let mut deployment = observed.deployment.clone().unwrap();
    let names = |deployment: &Deployment| -> Vec<_> {
        let obsolete = obsolete(&owner(), deployment, &observed.config_maps);
        obsolete
            .into_iter()
            .map(|map| map.metadata.name.clone().unwrap())
            .collect()
    };
    assert_eq!(names(&deployment), Vec::<String>::new());
    deployment.metadata.generation = Some(2);
    deployment.status = serde_json::from_value(json!({
        "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}))
    .unwrap();
    assert_eq!(
        names(&deployment),
        [built(&other_interval()).config_map.metadata.name.unwrap()]
    );
}
