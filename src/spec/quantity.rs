//! Resource quantities as Kubernetes parses them: `500m`, `1.5Gi`, `1e3`.
//!
//! ```text
//! text ─► sign, decimal digits, suffix ─► digits × 2^b ─► billionths, rounded away from zero ─► bytes, millis
//! ```
//!
//! Exact decimal arithmetic, no floats. The grammar and the rounding are those of
//! `k8s.io/apimachinery/pkg/api/resource` (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).

use std::fmt;
use std::str::FromStr;

/// Billionths in one: the finest step of a quantity.
const NANOS_PER_ONE: i128 = 1_000_000_000;
const NANOS_PER_MILLI: i128 = 1_000_000;
/// Decimal digits of [`NANOS_PER_ONE`].
const NANO_DIGITS: i64 = 9;
/// Kubernetes cuts larger quantities off at this number.
const LARGEST: i128 = i64::MAX as i128 * NANOS_PER_ONE;
/// The longest quantity, bytes: far beyond what any number within the range needs.
const MAX_TEXT_BYTES: usize = 256;
/// Decimal digits of [`LARGEST`].
const LARGEST_DIGITS: i64 = 28;

/// A number with a resolution of one billionth, at most 2⁶³ − 1 in magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity {
    nanos: i128,
}

/// Text that is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It has more digits than any quantity needs.
    #[error("a quantity has at most {MAX_TEXT_BYTES} characters, this one {0}")]
    TooLong(usize),
    /// It does not begin with a number.
    #[error("{0:?} is not a quantity; write a number with an optional suffix, such as 500m, 2 or 64Mi")]
    NotANumber(String),
    /// What follows the number is no suffix.
    #[error(
        "{quantity:?} has the unknown suffix {suffix:?}{hint}; suffixes are m, k, M, G, T, P, E and Ki, Mi, Gi, Ti, Pi, Ei"
    )]
    UnknownSuffix {
        /// The whole text.
        quantity: String,
        /// What follows the number.
        suffix: String,
        /// `, did you mean Mi?` or nothing.
        hint: String,
    },
}

impl Quantity {
    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it has no fraction.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS_PER_ONE == 0
    }

    /// The whole number at or above it, as Kubernetes' `Value()`; 0 when negative.
    pub fn ceil(self) -> u64 {
        scaled(self.nanos, NANOS_PER_ONE)
    }

    /// Thousandths, rounded up, as Kubernetes' `MilliValue()`; 0 when negative.
    pub fn millis(self) -> u64 {
        scaled(self.nanos, NANOS_PER_MILLI)
    }

    /// Whether it is more than 0 and less than one thousandth.
    pub fn is_below_one_milli(self) -> bool {
        0 < self.nanos && self.nanos < NANOS_PER_MILLI
    }
}

/// Thousandths as Kubernetes prints them: `1500m`, `2`.
pub fn of_millis(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// `nanos / unit` rounded up, within `0..=u64::MAX`.
fn scaled(nanos: i128, unit: i128) -> u64 {
    let nanos = nanos.max(0);
    u64::try_from(nanos / unit + i128::from(nanos % unit != 0)).unwrap_or(u64::MAX)
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(QuantityError::TooLong(text.len()));
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let negative = text.starts_with('-');
        let not_a_number = || QuantityError::NotANumber(text.to_owned());
        let number_len = unsigned.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, suffix) = unsigned.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(not_a_number());
        }
        let scale = Scale::from_suffix(suffix).ok_or_else(|| QuantityError::UnknownSuffix {
            quantity: text.to_owned(),
            suffix: suffix.to_owned(),
            hint: suffix_hint(suffix),
        })?;
        let nanos = nanos(whole, fraction, scale);
        Ok(Self { nanos: if negative { -nanos } else { nanos } })
    }
}

/// What a suffix multiplies by: 2^`two` × 10^`ten`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scale {
    two: u32,
    ten: i64,
}

impl Scale {
    fn from_suffix(suffix: &str) -> Option<Self> {
        let two = |two| Some(Self { two, ten: 0 });
        let ten = |ten| Some(Self { two: 0, ten });
        match suffix {
            "Ki" => two(10),
            "Mi" => two(20),
            "Gi" => two(30),
            "Ti" => two(40),
            "Pi" => two(50),
            "Ei" => two(60),
            "n" => ten(-9),
            "u" => ten(-6),
            "m" => ten(-3),
            "" => ten(0),
            "k" => ten(3),
            "M" => ten(6),
            "G" => ten(9),
            "T" => ten(12),
            "P" => ten(15),
            "E" => ten(18),
            _ => ten(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
        }
    }
}

fn suffix_hint(suffix: &str) -> String {
    let meant = match suffix.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" | "ki" => "Ki",
        "m" | "mb" | "mib" | "mi" => "Mi",
        "g" | "gb" | "gib" | "gi" => "Gi",
        "t" | "tb" | "tib" | "ti" => "Ti",
        _ => return String::new(),
    };
    format!(", did you mean {meant}?")
}

/// `whole.fraction` × `scale` in billionths, rounded up, cut off at [`LARGEST`].
fn nanos(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    for _ in 0..scale.two {
        double(&mut digits);
    }
    let leading_zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let digits = &digits[leading_zeros..];
    if digits.is_empty() {
        return 0;
    }
    // The decimal point stands this many digits right of the last one, counted in billionths.
    let shift = scale.ten.saturating_add(NANO_DIGITS).saturating_sub(fraction.len() as i64);
    let integer_digits = shift.saturating_add(digits.len() as i64);
    if integer_digits > LARGEST_DIGITS {
        return LARGEST;
    }
    // Between 0 and LARGEST_DIGITS digits of an integer: they fit, and the casts below are exact.
    let taken = digits.len().min(integer_digits.max(0) as usize);
    let mut value = digits[..taken].iter().fold(0i128, |value, digit| value * 10 + i128::from(*digit));
    for _ in 0..shift.max(0) {
        value *= 10;
    }
    let inexact = digits[taken..].iter().any(|digit| *digit != 0);
    (value + i128::from(inexact)).min(LARGEST)
}

/// Doubles a number of decimal digits, most significant first.
fn double(digits: &mut Vec<u8>) {
    let mut carry = 0;
    for digit in digits.iter_mut().rev() {
        let doubled = *digit * 2 + carry;
        *digit = doubled % 10;
        carry = doubled / 10;
    }
    if carry > 0 {
        digits.insert(0, carry);
    }
}

/// An amount in bytes as Kubernetes spells it: the largest unit that leaves no fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
        let (base, units) = if self.0.is_multiple_of(1024) { (1024, BINARY) } else { (1000, DECIMAL) };
        let (mut amount, mut unit) = (self.0, 0);
        while amount > 0 && amount.is_multiple_of(base) {
            amount /= base;
            unit += 1;
        }
        write!(f, "{amount}{}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn prints_as_kubernetes_does() {
        for (millis, text) in [(0, "0"), (1, "1m"), (1500, "1500m"), (2000, "2")] {
            assert_eq!(of_millis(millis), text);
        }
    }

    #[test]
    fn suffixes() {
        for (text, bytes, millis) in [
            ("0", 0, 0),
            ("1", 1, 1000),
            ("+1", 1, 1000),
            ("1.", 1, 1000),
            (".5", 1, 500),
            ("500m", 1, 500),
            ("0.1", 1, 100),
            ("100u", 1, 1),
            ("1n", 1, 1),
            ("1k", 1000, 1_000_000),
            ("1Ki", 1024, 1_024_000),
            ("1.5Gi", 3 << 29, (3 << 29) * 1000),
            ("32Mi", 32 << 20, (32 << 20) * 1000),
            ("0.5Ki", 512, 512_000),
            ("1e3", 1000, 1_000_000),
            ("1E3", 1000, 1_000_000),
            ("1E", 1_000_000_000_000_000_000, u64::MAX),
            ("5e-1", 1, 500),
            ("1e+2", 100, 100_000),
            ("007", 7, 7000),
            ("1Ei", 1 << 60, u64::MAX),
        ] {
            assert_eq!((parsed(text).ceil(), parsed(text).millis()), (bytes, millis), "{text}");
        }
    }

    #[test]
    fn rounds_away_from_zero_and_is_capped() {
        assert_eq!(parsed("1e-30"), Quantity { nanos: 1 });
        assert_eq!(parsed("-1e-30"), Quantity { nanos: -1 });
        assert_eq!(parsed("1.0000000001"), Quantity { nanos: NANOS_PER_ONE + 1 });
        assert_eq!(parsed("0.0000000001Ki"), Quantity { nanos: 103 });
        assert_eq!(parsed("1e99999"), Quantity { nanos: LARGEST });
        assert_eq!(parsed("9223372036854775807").ceil(), i64::MAX as u64);
        assert_eq!(parsed("9223372036854775808").ceil(), i64::MAX as u64);
        assert_eq!(parsed("8Ei").ceil(), i64::MAX as u64);
        assert_eq!(parsed(&format!("{}Mi", "9".repeat(100))), Quantity { nanos: LARGEST });
        assert!(parsed("0.5m").is_below_one_milli());
        assert!(!parsed("1m").is_below_one_milli());
        assert!(parsed("-5").is_negative());
        assert_eq!(parsed("-5").ceil(), 0);
    }

    #[test]
    fn refuses_what_kubernetes_refuses() {
        let endless = "1".repeat(MAX_TEXT_BYTES + 1);
        for text in [
            endless.as_str(),
            "",
            ".",
            "-",
            "m",
            "1.2.3",
            " 1",
            "1 ",
            "1 Mi",
            "1mi",
            "1K",
            "1MB",
            "1e",
            "1e1.5",
            "Ki",
            "--1",
            "0x10",
            "1e99999999999999999999",
            "1_000",
            "inf",
            "١",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
        let error = "64MB".parse::<Quantity>().unwrap_err().to_string();
        assert!(error.contains("did you mean Mi?"), "{error}");
    }

    proptest! {
        /// Against arithmetic on integers wide enough for the range.
        #[test]
        fn agrees_with_exact_arithmetic(
            negative: bool, whole in 0u64..1_000_000_000, fraction in 0u32..1_000_000, suffix in 0usize..16,
        ) {
            let (name, two, ten) = [
                ("n", 0, -9), ("u", 0, -6), ("m", 0, -3), ("", 0, 0), ("k", 0, 3), ("M", 0, 6), ("G", 0, 9),
                ("Ki", 10, 0), ("Mi", 20, 0), ("Gi", 30, 0), ("e2", 0, 2), ("E-2", 0, -2), ("e0", 0, 0),
                ("e+1", 0, 1), ("e-4", 0, -4), ("E6", 0, 6),
            ][suffix];
            let sign = if negative { "-" } else { "" };
            let text = format!("{sign}{whole}.{fraction:06}{name}");
            let mut nanos = (i128::from(whole) * 1_000_000 + i128::from(fraction)) << two;
            let power = ten + 9 - 6;
            if power >= 0 {
                nanos *= 10i128.pow(power as u32);
            } else {
                let divisor = 10i128.pow(-power as u32);
                nanos = nanos / divisor + i128::from(nanos % divisor != 0);
            }
            let nanos = nanos.min(LARGEST);
            prop_assert_eq!(parsed(&text).nanos, if negative { -nanos } else { nanos });
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn never_panics_on_what_looks_like_one(text in "[+-]?[0-9]{0,60}\\.?[0-9]{0,60}([eE][+-]?[0-9]{0,20}|[KMGTPE]i?|[numk]?)") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                prop_assert!(quantity.nanos.abs() <= LARGEST);
            }
        }
    }

    #[test]
    fn amounts_of_bytes_are_spelt_as_kubernetes_does() {
        let spelt = |bytes| Bytes(bytes).to_string();
        assert_eq!([0, 1, 1000, 1024, 1500].map(spelt), ["0", "1", "1k", "1Ki", "1500"]);
        assert_eq!([1 << 20, 3 << 29, 2_000_000].map(spelt), ["1Mi", "1536Mi", "2M"]);
        assert_eq!(spelt(1 << 60), "1Ei");
    }
}
