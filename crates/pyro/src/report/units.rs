//! Numbers as people read them: sizes, durations, times past.

use std::time::Duration;

/// So many of something: `1 file`, `3 files`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A size in B, KiB, MiB or GiB.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if tenths >= 1000 {
        return format!("{} {}", tenths / 10, UNITS[unit]);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A duration: `0.42 s`, `12.3 s`, `4 min 2 s`, `3 h 5 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.2} s", duration.as_secs_f64()),
        10..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// How long ago something was: `just now`, `2 min ago`, `3 days ago`.
pub(crate) fn ago(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        86_400..172_800 => "1 day ago".to_owned(),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// A time as `2026-11-23T11:12:05Z`, from seconds since 1970.
pub(crate) fn utc(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Howard Hinnant's days-to-date, with years that begin in March so that the leap day is their last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Rows as aligned columns; the last one is not padded.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    columns_and_numbers(rows, 0)
}

/// The same with the last `numbers` columns aligned at their right, as numbers are compared.
pub(crate) fn columns_and_numbers<const N: usize>(rows: &[[String; N]], numbers: usize) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, (width, cell)) in widths.iter().zip(row).enumerate() {
            let blanks = std::iter::repeat_n(' ', width - cell.chars().count());
            if index + numbers >= N {
                line.extend(blanks);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.extend(blanks);
            }
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn sizes_have_two_or_three_digits() {
        let sizes = [0, 1023, 1024, 10 * 1024, 150 << 20, (1 << 30) - 1, 5 << 40].map(super::size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "10.0 KiB", "150 MiB", "1023 MiB", "5.0 TiB"]);
    }

    #[test]
    fn durations_read_well() {
        let check = |millis, words: &str| assert_eq!(super::duration(Duration::from_millis(millis)), words);
        check(420, "0.42 s");
        check(12_340, "12.3 s");
        check(242_000, "4 min 2 s");
        check(11_100_000, "3 h 5 min");
    }

    #[test]
    fn times_are_dates() {
        let check = |seconds, text: &str| assert_eq!(super::utc(seconds), text);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_795_432_325, "2026-11-23T11:12:05Z");
        check(4_102_444_800, "2100-01-01T00:00:00Z");
    }

    #[test]
    fn columns_align() {
        let rows = [["a".to_owned(), "b".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(super::columns(&rows), "a       b\nlonger\n");
        let rows = [["a".to_owned(), "10".to_owned()], ["longer".to_owned(), "9".to_owned()]];
        assert_eq!(super::columns_and_numbers(&rows, 1), "a       10\nlonger   9\n");
    }
}
