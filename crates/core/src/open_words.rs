//! Enumerations that outsiders read as single words, with room for those of newer versions.

/// Declares an enumeration whose variants are written and read as their words; a word that no
/// variant has is kept in `Other`.
macro_rules! open_words {
    (
        $(#[$of_enum:meta])*
        pub enum $name:ident {
            $($(#[$of_variant:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$of_enum])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$of_variant])* $variant,)+
            /// A word that only a newer version knows.
            Other(String),
        }

        impl $name {
            /// The values that this version knows, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that outsiders read.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                Ok(Self::from(word.as_str()))
            }
        }
    };
}

pub(crate) use open_words;

#[cfg(test)]
#[expect(unreachable_pub, reason = "what it declares is public elsewhere")]
mod tests {
    open_words! {
        /// Colours of a test.
        pub enum Colour {
            /// Variant of one word.
            Red = "red",
            /// Variant of two words, with a dash between them.
            LightGreen = "light-green",
        }
    }

    #[test]
    fn every_word_is_read_as_it_was_written_and_unknown_ones_are_kept() {
        let written = serde_json::to_string(Colour::ALL).unwrap();
        assert_eq!(written, r#"["red","light-green"]"#);
        assert_eq!(serde_json::from_str::<Vec<Colour>>(&written).unwrap(), Colour::ALL);
        let newer: Colour = serde_json::from_str(r#""mauve""#).unwrap();
        assert_eq!(newer, Colour::Other("mauve".into()));
        assert_eq!(newer.to_string(), "mauve");
    }
}
