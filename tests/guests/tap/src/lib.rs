//! Results in the form of the Test Anything Protocol (<https://testanything.org>): one line a check.

use std::cell::Cell;
use std::fmt::Debug;

thread_local! {
    static CHECKS: Cell<u32> = const { Cell::new(0) };
    static FAILURES: Cell<u32> = const { Cell::new(0) };
}

/// Says whether a check held; `got` is shown where it did not.
pub fn check(held: bool, what: &str, line: u32, got: &dyn Debug) {
    CHECKS.set(CHECKS.get() + 1);
    let number = CHECKS.get();
    if held {
        println!("ok {number} - {what}");
    } else {
        FAILURES.set(FAILURES.get() + 1);
        println!("not ok {number} - {what}\n# line {line}: {got:?}");
    }
}

/// Names the checks that follow.
pub fn topic(name: &str) {
    println!("# {name}");
}

/// Prints the plan. Whether all checks held.
pub fn done() -> bool {
    println!("1..{}\n# {} failed", CHECKS.get(), FAILURES.get());
    FAILURES.get() == 0
}

/// The expression has the form of the pattern.
#[macro_export]
macro_rules! is {
    ($value:expr, $($pattern:tt)+) => {{
        let value = $value;
        let what = concat!(stringify!($value), " is ", stringify!($($pattern)+));
        $crate::check(matches!(value, $($pattern)+), what, line!(), &value);
    }};
}

/// The two are equal, as they are printed: not all generated types compare.
#[macro_export]
macro_rules! same {
    ($left:expr, $right:expr) => {{
        let (left, right) = (format!("{:?}", $left), format!("{:?}", $right));
        let what = concat!(stringify!($left), " is ", stringify!($right));
        $crate::check(left == right, what, line!(), &(left, right));
    }};
}

/// The expression is true.
#[macro_export]
macro_rules! ok {
    ($condition:expr) => {
        $crate::check($condition, stringify!($condition), line!(), &"false")
    };
}
