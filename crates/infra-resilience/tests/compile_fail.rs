//! What must not compile does not.

#[test]
fn a_call_that_must_not_be_made_twice_is_refused_by_retry_and_hedge() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/fail/*.rs");
}
