//! Numbers, durations and texts as a reader wants to see them.

/// Narrow no-break space, between groups of three digits.
const THIN: char = '\u{202f}';

/// Replaces what has a meaning in HTML, in text and in quoted attributes alike.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A whole number with its digits in groups of three, if it has more than four.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    if digits.len() <= 4 {
        return digits;
    }
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(THIN);
        }
        out.push(c);
    }
    out
}

/// A number with four significant digits; what is not finite is said in words.
pub(super) fn number(v: f64) -> String {
    if v.is_nan() {
        return "not a number".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "∞" } else { "−∞" }.to_owned();
    }
    let size = v.abs();
    let text = if size == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e9).contains(&size) {
        let text = format!("{size:.3e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{}×10{}", trimmed(mantissa), superscript(exponent))
    } else if size >= 1000.0 {
        count(size.round() as u64)
    } else {
        let n_decimals = (3.0 - size.log10().floor()) as usize;
        trimmed(&format!("{size:.n_decimals$}")).to_owned()
    };
    if v < 0.0 { format!("−{text}") } else { text }
}

/// A number with about three significant digits, large ones in thousands or millions.
pub(super) fn brief(v: f64) -> String {
    let (scaled, suffix) = match v.abs() {
        size if !(1e-3..1e12).contains(&size) => return number(v),
        size if size >= 1e9 => (v / 1e9, "G"),
        size if size >= 1e6 => (v / 1e6, "M"),
        size if size >= 1e4 => (v / 1e3, "k"),
        _ => (v, ""),
    };
    let n_decimals = (2.0 - scaled.abs().log10().floor()).max(0.0) as usize;
    let text = format!("{:.n_decimals$}", scaled.abs());
    let sign = if v < 0.0 { "−" } else { "" };
    let gap = if suffix.is_empty() { "" } else { "\u{202f}" };
    format!("{sign}{}{gap}{suffix}", trimmed(&text))
}

/// A fraction in percent, with `n_digits` decimals; a dash for what is not finite.
pub(super) fn percent(v: f64, n_digits: usize) -> String {
    if v.is_finite() { format!("{:.n_digits$}{THIN}%", 100.0 * v) } else { "–".to_owned() }
}

/// Seconds in the two largest units that matter.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    if seconds < 0.0995 {
        return format!("{:.0} ms", 1000.0 * seconds);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (h, m, s) = (whole / 3600, whole / 60 % 60, whole % 60);
    if h > 0 { format!("{} h {m:02} min", count(h)) } else { format!("{m} min {s:02} s") }
}

/// Seconds since 1970 as a date and time in UTC (civil calendar from days, by eras of 400 years).
pub(super) fn date(unix_time: u64) -> String {
    let days = unix_time / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months counted from March, so that the leap day comes last.
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (unix_time / 3600 % 24, unix_time / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// `n` and a noun in the right number.
pub(super) fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A snake-case name as the beginning of a sentence.
pub(super) fn words(name: &str) -> String {
    let spaced = name.replace('_', " ");
    let mut chars = spaced.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn trimmed(decimal: &str) -> &str {
    if decimal.contains('.') {
        decimal.trim_end_matches('0').trim_end_matches('.')
    } else {
        decimal
    }
}

fn superscript(exponent: &str) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    exponent
        .chars()
        .filter_map(|c| match c {
            '-' => Some('⁻'),
            c => c.to_digit(10).map(|d| DIGITS[d as usize]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        let shown: Vec<String> =
            [0.0, 1.0, -0.5, 0.123456, 12.3456, 999.96, 12345.6, 1.5e-7, 2.5e12]
                .map(number)
                .to_vec();
        let expected =
            ["0", "1", "−0.5", "0.1235", "12.35", "1000", "12\u{202f}346", "1.5×10⁻⁷", "2.5×10¹²"];
        assert_eq!(shown, expected);
        assert_eq!(number(f64::NAN), "not a number");
        assert_eq!(number(f64::NEG_INFINITY), "−∞");
    }

    #[test]
    fn brief_numbers_keep_three() {
        let shown = [0.002_259, -0.6851, 1535.2, 75_737.0, 2.5e6, 0.0, 1e-9].map(brief);
        let expected =
            ["0.00226", "−0.685", "1535", "75.7\u{202f}k", "2.5\u{202f}M", "0", "1×10⁻⁹"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(date(1_767_225_599), "2025-12-31 23:59 UTC");
    }

    #[test]
    fn durations_use_two_units() {
        let shown = [0.0123, 1.26, 59.96, 3725.0, f64::NAN].map(duration);
        assert_eq!(shown, ["12 ms", "1.3 s", "1 min 00 s", "1 h 02 min", "unknown"]);
    }

    #[test]
    fn markup_becomes_text() {
        assert_eq!(escape("<b a='1'>&\u{0}"), "&lt;b a=&#39;1&#39;&gt;&amp;\u{fffd}");
    }
}
