//! The order of Debian versions, as the Debian Policy Manual (section 5.6.12) and `deb-version(7)` define it.

use std::cmp::Ordering;

/// Compares two versions `[epoch:]upstream[-revision]`. Defined for any text, so that no archive can make it fail.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left_epoch, left_upstream, left_revision) = split(left);
    let (right_epoch, right_upstream, right_revision) = split(right);
    compare_numbers(left_epoch.as_bytes(), right_epoch.as_bytes())
        .then_with(|| compare_parts(left_upstream, right_upstream))
        .then_with(|| compare_parts(left_revision, right_revision))
}

/// Epoch, upstream version and revision; an absent epoch or revision is empty, which sorts as 0.
fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => (epoch, rest),
        _ => ("", version),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Compares by turns a run of non-digits and a run of digits.
fn compare_parts(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = run(left, |byte| !byte.is_ascii_digit());
        let (right_text, right_rest) = run(right, |byte| !byte.is_ascii_digit());
        let (left_number, left_rest) = run(left_rest, |byte| byte.is_ascii_digit());
        let (right_number, right_rest) = run(right_rest, |byte| byte.is_ascii_digit());
        let order = compare_texts(left_text, right_text).then_with(|| compare_numbers(left_number, right_number));
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let length = bytes.iter().position(|&byte| !belongs(byte)).unwrap_or(bytes.len());
    bytes.split_at(length)
}

/// A tilde sorts before the end, the end before letters, letters before all else.
fn compare_texts(left: &[u8], right: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    };
    (0..left.len().max(right.len()))
        .map(|at| weight(left.get(at)).cmp(&weight(right.get(at))))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

/// Compares digits as numbers of any size.
fn compare_numbers(left: &[u8], right: &[u8]) -> Ordering {
    let (_, left) = run(left, |byte| byte == b'0');
    let (_, right) = run(right, |byte| byte == b'0');
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::compare;

    #[test]
    fn the_documented_order_holds() {
        let rising = [
            "~~",
            "~~a",
            "~",
            "",
            "1.0~beta1~svn1245",
            "1.0~beta1",
            "1.0",
            "1.0-0.1",
            "1.0-1",
            "1.0-1+deb12u1",
            "1.0-1+deb12u2",
            "1.0-1+deb12u10",
            "1.0a",
            "1.0+b",
            "1.0.1",
            "1.2",
            "1.10",
            "2.0-1~bpo12+1",
            "2.0-1",
            "2.0-1-1",
            "9",
            "10",
            "99999999999999999999999998",
            "99999999999999999999999999",
            "1:0.1",
            "2:0~rc1",
            "2:0",
            "10:0",
        ];
        for (at, left) in rising.iter().enumerate() {
            for (other, right) in rising.iter().enumerate() {
                assert_eq!(compare(left, right), at.cmp(&other), "{left} and {right}");
            }
        }
    }

    #[test]
    fn within_a_part_the_order_is_tilde_end_letter_rest() {
        for pair in ["1~~", "1~~a", "1~", "1", "1a", "1b", "1+", "1."].windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn zeros_epochs_and_revisions_that_mean_nothing_are_equal() {
        for (left, right) in
            [("0:1.0", "1.0"), ("1.0-0", "1.0"), ("1.00", "1.0"), ("1.0.0", "1.0."), ("00:1", "1"), ("a0", "a")]
        {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} and {right}");
        }
    }

    fn version() -> impl Strategy<Value = String> {
        "([0-9]{1,2}:)?[0-9a-c.+~-]{0,8}"
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in version(), b in version(), c in version()) {
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b) != Ordering::Greater && compare(&b, &c) != Ordering::Greater {
                prop_assert_ne!(compare(&a, &c), Ordering::Greater);
            }
        }

        #[test]
        fn a_tilde_comes_before_and_a_plus_after(upstream in "[0-9]{1,3}(\\.[0-9]{1,3}){0,3}", tail in "[a-z0-9]{0,4}") {
            prop_assert_eq!(compare(&format!("{upstream}~{tail}"), &upstream), Ordering::Less);
            prop_assert_eq!(compare(&format!("{upstream}+{tail}"), &upstream), Ordering::Greater);
            let (earlier, revised) = (format!("{upstream}-1~{tail}"), format!("{upstream}-1"));
            prop_assert_eq!(compare(&earlier, &revised), Ordering::Less);
        }

        #[test]
        fn any_text_is_compared(a in any::<String>(), b in any::<String>()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}
