//! How a field stands to `nested` objects: below one, every element of an array is a document of its own,
//! and a document has as many vectors.

use serde_json::Value;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nesting {
    /// Below none: a document has one vector.
    None,
    /// Below one: several.
    Once,
    /// Below one inside another, or below one whose fields are also fields of the document around it. Which
    /// vectors belong to what is Elasticsearch's to say.
    Deeper,
}

impl Nesting {
    /// That of what stands below an object; `option` tells the object's own parameters.
    pub(crate) fn below<'v>(self, option: impl Fn(&str) -> Option<&'v str>) -> Self {
        let is_on = |key: &str| option(key).is_some_and(|value| value != "false");
        match self {
            _ if option("type") != Some("nested") => self,
            Nesting::None if !is_on("include_in_parent") && !is_on("include_in_root") => Nesting::Once,
            _ => Nesting::Deeper,
        }
    }

    /// The same of a definition that was parsed.
    pub(crate) fn below_value(self, definition: &Value) -> Self {
        self.below(|key| match definition.get(key)? {
            Value::String(text) => Some(text),
            Value::Bool(false) => Some("false"),
            _ => Some("true"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_one_nested_object_counts() {
        let object = json!({"properties": {}});
        let nested = json!({"type": "nested", "include_in_root": false});
        let copied = json!({"type": "nested", "include_in_parent": true});
        assert_eq!(Nesting::None.below_value(&object), Nesting::None);
        assert_eq!(Nesting::None.below_value(&nested), Nesting::Once);
        assert_eq!(Nesting::Once.below_value(&object), Nesting::Once);
        assert_eq!(Nesting::Once.below_value(&nested), Nesting::Deeper);
        assert_eq!(Nesting::None.below_value(&copied), Nesting::Deeper);
        assert_eq!(Nesting::Deeper.below_value(&object), Nesting::Deeper);
    }
}
