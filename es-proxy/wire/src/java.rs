//! Floats as Java prints them: `Float.toString` of JDK 19 and later.

/// `value` as Java's `Float.toString` writes it: shortest digits that read back to the same float,
/// always with a fraction, plain between 1e-3 and 1e7, else with a capital E.
pub fn float(value: f32) -> String {
    let mut out = String::new();
    push_float(&mut out, value);
    out
}

/// Appends [`float`] to `out`.
pub fn push_float(out: &mut String, value: f32) {
    use std::fmt::Write;
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        // Debug keeps ".0" on whole numbers and is the plain shortest form in this range.
        let _ = write!(out, "{value:?}");
        return;
    }
    let start = out.len();
    let _ = write!(out, "{value:E}");
    // Java writes at least one digit after the point, also before an exponent.
    let exponent_at = start + out[start..].find('E').unwrap_or(0);
    if !out[start..exponent_at].contains('.') {
        out.insert_str(exponent_at, ".0");
    }
}
