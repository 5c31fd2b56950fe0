//! Windows: one kind, with lengths that fit each other.

use super::super::text::{instant, positive};
use super::super::{Findings, exactly_one};
use crate::plan::{Code, MOST_HOPS, Violation, WindowPlan};
use crate::window::{Hopping, Session, Tumbling, Window};

pub(super) fn window(raw: &Window, path: &str, findings: &mut Findings) -> Option<WindowPlan> {
    let kinds = [
        ("tumbling", raw.tumbling.is_some()),
        ("hopping", raw.hopping.is_some()),
        ("session", raw.session.is_some()),
    ];
    let one = exactly_one(path, &kinds, findings);
    let tumbling = raw.tumbling.as_ref();
    let tumbling = tumbling.and_then(|raw| tumbles(raw, &format!("{path}.tumbling"), findings));
    let hopping = raw.hopping.as_ref();
    let hopping = hopping.and_then(|raw| hops(raw, &format!("{path}.hopping"), findings));
    let session = raw.session.as_ref();
    let session = session.and_then(|raw| lasts(raw, &format!("{path}.session"), findings));
    tumbling.or(hopping).or(session).filter(|_| one)
}

fn tumbles(raw: &Tumbling, path: &str, findings: &mut Findings) -> Option<WindowPlan> {
    let size = micros(&raw.size, &format!("{path}.size"), findings);
    let origin = origin(raw.origin.as_deref(), path, findings);
    Some(WindowPlan::Tumbling {
        size: size?,
        origin: origin?,
    })
}

fn hops(raw: &Hopping, path: &str, findings: &mut Findings) -> Option<WindowPlan> {
    let size = micros(&raw.size, &format!("{path}.size"), findings);
    let slide = micros(&raw.slide, &format!("{path}.slide"), findings);
    let origin = origin(raw.origin.as_deref(), path, findings);
    // What is not positive has its finding.
    let (size, slide) = (size.filter(|n| *n > 0)?, slide.filter(|n| *n > 0)?);
    let fault = |message| Violation::new(Code::OutOfRange, format!("{path}.slide"), message);
    findings.require(slide <= size, || {
        fault(format!(
            "must be at most `size`, {}: rows between two windows would count in none",
            raw.size
        ))
    });
    findings.require(
        size / slide < MOST_HOPS || size == slide * MOST_HOPS,
        || {
            fault(format!(
                "a row would count in more than {MOST_HOPS} windows of {}",
                raw.size
            ))
        },
    );
    Some(WindowPlan::Hopping {
        size,
        slide,
        origin: origin?,
    })
}

fn lasts(raw: &Session, path: &str, findings: &mut Findings) -> Option<WindowPlan> {
    let gap = micros(&raw.gap, &format!("{path}.gap"), findings)?;
    Some(WindowPlan::Session { gap })
}

pub(super) fn micros(text: &str, path: &str, findings: &mut Findings) -> Option<i64> {
    i64::try_from(positive(text, path, findings)?.as_micros()).ok()
}

fn origin(text: Option<&str>, path: &str, findings: &mut Findings) -> Option<i64> {
    match text {
        Some(text) => instant(text, &format!("{path}.origin"), findings),
        None => Some(0),
    }
}
