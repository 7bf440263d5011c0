//! Versions that nobody has looked at yet, but that an operator wants served.

use std::fmt;
use std::str::FromStr;

use super::EsVersion;

/// Version numbers, each of which may leave out its end: `9.3` stands for all of 9.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedVersions(Vec<Vec<u32>>);

impl AllowedVersions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `version` is among them.
    pub fn contains(&self, version: EsVersion) -> bool {
        let numbers = [version.major, version.minor, version.patch];
        self.0.iter().any(|allowed| numbers.starts_with(allowed))
    }
}

impl FromStr for AllowedVersions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let version = |part: &str| {
            let numbers: Result<Vec<u32>, _> = part.trim().split('.').map(str::parse).collect();
            numbers
                .ok()
                .filter(|numbers| numbers.len() <= 3)
                .ok_or_else(|| format!("[{part}] is no version; write 9.3 or 9.3.1"))
        };
        text.split(',').map(version).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for AllowedVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, numbers) in self.0.iter().enumerate() {
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            write!(f, "{}{}", if at == 0 { "" } else { "," }, numbers.join("."))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Capabilities, Mode};

    #[test]
    fn versions_are_served_once_allowed_and_not_before() {
        let allowed: AllowedVersions = "9.3, 10.0.1,8.20,7.17,8.9".parse().unwrap();
        assert_eq!(allowed.to_string(), "9.3,10.0.1,8.20,7.17,8.9");
        let of = |version: &str| Capabilities::of_allowed(version.parse().unwrap(), &allowed);
        for (version, like) in
            [("9.3.7", "9.2.0"), ("10.0.1", "9.2.0"), ("8.20.0", "8.19.0"), ("8.19.0", "8.19.0")]
        {
            let like = Capabilities::of(like.parse().unwrap()).unwrap();
            let version = version.parse().unwrap();
            assert_eq!(Capabilities::of_allowed(version, &allowed), Some(Capabilities { version, ..like }));
        }
        // Not allowed; or older than anything that is known.
        for version in ["9.4.0", "10.0.0", "10.1.1", "7.17.0", "8.9.0"] {
            assert_eq!(of(version), None, "{version}");
        }
        assert_eq!(of("8.10.4").unwrap().mode, Mode::Mirror);
        assert!(AllowedVersions::default().is_empty());
        for bad in ["", "9.x", "9.3.1.2", "9,", "any"] {
            bad.parse::<AllowedVersions>().unwrap_err();
        }
    }
}
