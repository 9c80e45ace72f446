//! Numbers as callers send them: the three grades of the wire chapter, section 0. One typed decoder, so that a float or a
//! text is never taken for something else (D6).

use serde_json::Value;

/// `UINT`: a JSON integer from 0, or a float without fraction.
pub fn uint(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

/// `LENIENT` and `UINT/S`: [`uint`], or the same as decimal text.
pub fn lenient(value: &Value) -> Option<u64> {
    uint(value).or_else(|| value.as_str().and_then(digits))
}

/// Decimal digits only: no sign, no blanks.
pub fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn whole(number: f64) -> Option<u64> {
    // Up to 2^53 a float without fraction is exact; above, two integers share one float and neither may be guessed.
    (number >= 0.0 && number.fract() == 0.0 && number <= 9_007_199_254_740_992.0).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn d6_integers_whole_floats_and_decimal_texts_are_numbers() {
        for (value, as_uint, as_lenient) in [
            (json!(5), Some(5), Some(5)),
            (json!(5.0), Some(5), Some(5)),
            (json!("5"), None, Some(5)),
            (json!(0), Some(0), Some(0)),
            (json!(u64::MAX), Some(u64::MAX), Some(u64::MAX)),
        ] {
            assert_eq!((uint(&value), lenient(&value)), (as_uint, as_lenient), "{value}");
        }
    }

    #[test]
    fn d6_nothing_else_is_a_number() {
        for value in [
            json!(-5),
            json!(5.5),
            json!(true),
            json!(null),
            json!("five"),
            json!("-5"),
            json!("+5"),
            json!(""),
            json!(" 5"),
            json!([5]),
            json!(1e300),
        ] {
            assert_eq!((uint(&value), lenient(&value)), (None, None), "{value}");
        }
    }
}
