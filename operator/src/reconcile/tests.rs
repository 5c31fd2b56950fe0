//! The order of requests, against a scripted API server.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::build::tests::{defaults, spec_json};
use crate::clock::SystemClock;
use crate::rollout::Hold;

/// What is asked, as `VERB kind` or `VERB kind/name`.
type Log = Arc<Mutex<Vec<String>>>;

/// An API server on which nothing is but the namespace; an apply is answered with what was applied. `refused`: the kind whose
/// applies a quota refuses.
fn scripted(refused: &'static str) -> (Client, Log) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let log = Log::default();
    let told = Arc::clone(&log);
    let mut tasks = crate::tasks::Tasks::default();
    tasks.spawn("the scripted API server", async move {
        while let Some((request, send)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let (status, answer) = answer(&parts.method, parts.uri.path(), &body, refused, &told);
            let body = Body::from(answer.to_string().into_bytes());
            send.send_response(Response::builder().status(status).body(body).unwrap());
        }
    });
    tasks.detach();
    (Client::new(service, "shop"), log)
}

fn answer(
    method: &Method,
    path: &str,
    body: &[u8],
    refused: &str,
    log: &Log,
) -> (StatusCode, Value) {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let at = parts.iter().position(|part| *part == "namespaces").unwrap();
    let object = parts[at + 2..].join("/");
    let failure = |status: StatusCode, reason: &str| {
        let message = format!("{reason} by the script");
        (
            status,
            json!({"kind": "Status", "status": "Failure", "code": status.as_u16(), "reason": reason, "message": message}),
        )
    };
    log.lock().unwrap().push(format!("{method} {object}"));
    match *method {
        Method::GET if object.is_empty() => (
            StatusCode::OK,
            json!({"metadata": {"name": "shop", "uid": "ns-1"}}),
        ),
        Method::GET if parts.len() == at + 3 => {
            (StatusCode::OK, json!({"metadata": {}, "items": []}))
        }
        Method::GET => failure(StatusCode::NOT_FOUND, "NotFound"),
        Method::PATCH if object.starts_with(refused) => failure(StatusCode::FORBIDDEN, "Forbidden"),
        Method::PATCH => (StatusCode::OK, serde_json::from_slice(body).unwrap()),
        _ => failure(StatusCode::INTERNAL_SERVER_ERROR, "NotScripted"),
    }
}

fn pipeline(edit: impl FnOnce(&mut Value)) -> EventPipeline {
    let mut spec = spec_json();
    edit(&mut spec);
    serde_json::from_value(json!({
        "apiVersion": "eventpipeline.dev/v1alpha1", "kind": "EventPipeline",
        "metadata": {"name": "orders", "namespace": "shop", "uid": "uid-1", "generation": 3},
        "spec": spec,
    }))
    .unwrap()
}

async fn reconciled(
    pipeline: &EventPipeline,
    refused: &'static str,
) -> (Result<Again, Error>, Vec<String>, Option<Judged>) {
    let (client, log) = scripted(refused);
    let context = Context {
        client,
        clock: SystemClock::shared(),
        defaults: defaults(),
        verdicts: Verdicts::default(),
        metrics: Metrics::new(),
    };
    let result = reconcile(pipeline, &context).await;
    let asked = log.lock().unwrap().clone();
    (result, asked, context.verdicts.get("uid-1"))
}

fn writes(asked: &[String]) -> Vec<&str> {
    let kinds = asked.iter().filter(|asked| !asked.starts_with("GET"));
    kinds
        .map(|asked| asked.split('/').next().unwrap())
        .collect()
}

#[tokio::test]
async fn children_are_applied_in_an_order_in_which_none_waits_for_the_next() {
    let (result, asked, judged) = reconciled(&pipeline(|_| ()), "nothing").await;
    assert_eq!(result.unwrap(), Again::Later);
    assert_eq!(
        writes(&asked),
        [
            "PATCH serviceaccounts",
            "PATCH configmaps",
            "PATCH deployments"
        ]
    );
    let judged = judged.unwrap();
    assert_eq!((judged.generation, judged.verdict), (3, Verdict::Applied));
    assert_eq!(judged.freshness, Some(Duration::from_secs(31 * 60 + 30)));
}

#[tokio::test]
async fn a_spec_with_findings_writes_nothing() {
    let wrong = pipeline(|spec| spec["sinks"][0]["from"] = json!("nowhere"));
    let (result, asked, judged) = reconciled(&wrong, "nothing").await;
    assert_eq!(
        (result.unwrap(), writes(&asked)),
        (Again::Later, Vec::new())
    );
    assert!(matches!(
        judged.unwrap().verdict,
        Verdict::Held(Hold::NotAccepted(_))
    ));
}

#[tokio::test]
async fn a_child_that_is_refused_is_told_and_looked_at_again() {
    let (result, asked, judged) = reconciled(&pipeline(|_| ()), "deployments").await;
    assert_eq!(result.unwrap(), Again::InAWhile);
    assert_eq!(writes(&asked).len(), 3);
    let wanted = "the API server refuses Deployment orders: Forbidden by the script";
    assert_eq!(
        judged.unwrap().verdict,
        Verdict::ChildRefused(wanted.into())
    );
}
