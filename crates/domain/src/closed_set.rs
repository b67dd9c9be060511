//! Closed sets of words: each member has a code, which is stored and never changes, and a label for
//! the screens.

/// Makes an enum of members with codes and labels.
macro_rules! closed_set {
    ($(#[$outer:meta])* $set:ident { $($(#[$doc:meta])* $name:ident => $code:literal, $label:literal;)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $set { $($(#[$doc])* $name),* }

        impl $set {
            /// All of them, in the order of lists to choose from.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word in the database and the API.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The words on the screens.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }

            /// The inverse of `code`.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.code() == code)
            }
        }
    };
}
pub(crate) use closed_set;
