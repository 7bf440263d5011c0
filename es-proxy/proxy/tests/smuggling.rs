//! Request smuggling: every raw case of [`corpus`] is played through the request path to an upstream that
//! writes down what it gets and takes nothing ambiguous ([`recorder`]). What it got must be what was meant, in
//! order; each response must be the one to its own request; and each request must have been counted.

mod common;
#[allow(missing_docs, unreachable_pub, reason = "modules of a test")]
mod smuggling {
    pub mod corpus;
    pub mod play;
    pub mod recorder;
}

use smuggling::corpus::{Case, End, cases};
use smuggling::play::{Stage, check};

#[tokio::test]
async fn nothing_reaches_elasticsearch_that_was_not_meant() {
    let cases = cases();
    assert!(cases.len() >= 500, "{} cases", cases.len());
    let stage = Stage::set().await;
    let mut wrong = Vec::new();
    for case in &cases {
        for step in [usize::MAX, 7, 1] {
            if let Err(fault) = check(&stage, case, step).await {
                wrong.push(format!(
                    "{} (in steps of {step}): {fault}\n  {:?}",
                    case.name,
                    String::from_utf8_lossy(&case.raw)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What a case looks like can be read off its name, and each stands once.
#[test]
fn cases_are_told_apart_by_their_names() {
    let mut names: Vec<String> = cases().into_iter().map(|case: Case| case.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(cases().iter().any(|case| case.end == End::Refused));
}
