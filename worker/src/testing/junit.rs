//! Results as `JUnit` XML, as build servers read it.

use std::time::Duration;

/// The tests of one folder.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The folder.
    pub name: String,
    /// Its tests.
    pub cases: Vec<Case>,
}

/// One test.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// How long it ran.
    pub took: Duration,
    /// What failed, in a line and at length; `None`: it passed.
    pub failure: Option<(String, String)>,
}

/// The document.
pub fn document(suites: &[Suite]) -> String {
    let all = totals(suites.iter().flat_map(|suite| &suite.cases));
    let suites: String = suites.iter().map(of_suite).collect();
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    format!("{head}\n<testsuites{all}>\n{suites}</testsuites>\n")
}

fn of_suite(suite: &Suite) -> String {
    let (name, counts) = (escaped(&suite.name), totals(suite.cases.iter()));
    let cases = suite.cases.iter().map(|case| of_case(&suite.name, case));
    let cases: String = cases.collect();
    format!("  <testsuite name=\"{name}\"{counts}>\n{cases}  </testsuite>\n")
}

fn totals<'a>(cases: impl Iterator<Item = &'a Case>) -> String {
    let (mut tests, mut failures, mut took) = (0, 0, Duration::ZERO);
    for case in cases {
        tests += 1;
        failures += u32::from(case.failure.is_some());
        took += case.took;
    }
    let seconds = took.as_secs_f64();
    format!(
        " tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{seconds:.3}\""
    )
}

fn of_case(suite: &str, case: &Case) -> String {
    let Case {
        name,
        took,
        failure,
    } = case;
    let (class, name, seconds) = (escaped(suite), escaped(name), took.as_secs_f64());
    let head = format!("<testcase classname=\"{class}\" name=\"{name}\" time=\"{seconds:.3}\"");
    let Some((message, details)) = failure else {
        return format!("    {head}/>\n");
    };
    let (message, details) = (escaped(message), escaped(details));
    let failure = format!("<failure message=\"{message}\">{details}</failure>");
    format!("    {head}>\n      {failure}\n    </testcase>\n")
}

/// As text and as an attribute's value. Characters that XML 1.0 cannot hold at all become question marks.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' => escaped += "&#10;",
            '\t' => escaped += "&#9;",
            '\r' => escaped += "&#13;",
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_counts_its_tests_and_holds_any_text() {
        let case = |name: &str, failure: Option<(&str, &str)>| Case {
            name: name.to_owned(),
            took: Duration::from_millis(1500),
            failure: failure.map(|(a, b)| (a.to_owned(), b.to_owned())),
        };
        let suite = Suite {
            name: "a/b".to_owned(),
            cases: vec![
                case("x < \"y\" & 'z'", None),
                case("bad", Some(("plain", "]]>\n\u{1}"))),
            ],
        };
        assert_eq!(
            document(&[suite]),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuites tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"3.000\">\n\
             \x20 <testsuite name=\"a/b\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"3.000\">\n\
             \x20   <testcase classname=\"a/b\" name=\"x &lt; &quot;y&quot; &amp; 'z'\" time=\"1.500\"/>\n\
             \x20   <testcase classname=\"a/b\" name=\"bad\" time=\"1.500\">\n\
             \x20     <failure message=\"plain\">]]&gt;&#10;?</failure>\n\
             \x20   </testcase>\n\
             \x20 </testsuite>\n\
             </testsuites>\n"
        );
    }
}
