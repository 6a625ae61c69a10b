//! Numbers as people read and write them.

/// `93.8 MiB`: three digits and a binary unit.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64;
    let mut unit = "";
    for name in UNITS {
        value /= 1024.0;
        unit = name;
        if value < 1023.5 {
            break;
        }
    }
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$} {unit}")
}

/// `134,515,008`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `135 M`, `1.54 B`: parameters.
pub fn parameters(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.2} K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        _ => format!("{:.2} B", n as f64 / 1e9),
    }
}

/// Reads `512M`, `2GiB`, `1.5G`, `1000000`: units are binary.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| "expected a size such as 512M or 2G".to_string())?;
    let shift = match unit.trim().to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("unknown unit `{}`; use K, M, G or T", unit.trim())),
    };
    let size = number * (1u64 << shift) as f64;
    if size < 1.0 || size >= usize::MAX as f64 {
        return Err("expected a size of at least one byte that fits in memory".to_string());
    }
    Ok(size as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let shown: Vec<String> =
            [0, 1023, 1024, 98_362_432, 491_400_064, 1 << 40, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["0 B", "1023 B", "1.00 KiB", "93.8 MiB", "469 MiB", "1.00 TiB", "16.0 EiB"]);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 134_515_008].map(grouped), ["0", "999", "1,000", "134,515,008"]);
    }

    #[test]
    fn sizes_are_read_with_binary_units() {
        assert_eq!(parse_bytes("512M"), Ok(512 << 20));
        assert_eq!(parse_bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("1000"), Ok(1000));
        for text in ["", "M", "-1", "1X", "0", "1e99", "9999999999T", "nan"] {
            assert!(parse_bytes(text).is_err(), "{text} was accepted");
        }
    }
}
