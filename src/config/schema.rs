//! Turns the list of settings in `config/mod.rs` into types and a table of them.

/// One setting, as the printing parts see it.
pub(super) struct FieldInfo {
    pub name: &'static str,
    pub doc: String,
    /// What may be set, such as `1 to 100`.
    pub rule: Option<String>,
    /// As TOML; `None` if it is not set.
    pub value: Option<String>,
    pub secret: bool,
}

pub(super) struct SectionInfo {
    pub name: &'static str,
    pub doc: String,
    pub fields: Vec<FieldInfo>,
}

/// Joins the lines of a doc comment.
pub(super) fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

macro_rules! config {
    ($(
        $(#[doc = $section_doc:literal])*
        $section:ident: $Section:ident {
            $( $(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr, $rule:expr; )*
        }
    )*) => {
        $(
            $(#[doc = $section_doc])*
            #[derive(Clone, Debug)]
            pub struct $Section { $( $(#[doc = $doc])* pub $field: $type, )* }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $field: $default, )* }
                }
            }
        )*

        /// Everything that can be set, with where each value came from.
        #[derive(Clone, Debug, Default)]
        pub struct Config {
            $( $(#[doc = $section_doc])* pub $section: $Section, )*
            origins: load::Origins,
        }

        impl Config {
            const SECTIONS: &'static [&'static str] = &[$( stringify!($section), )*];

            /// Sets one value. The error says what would be possible.
            fn assign(&mut self, section: &str, field: &str, given: field::Given<'_>) -> Result<(), load::Refused> {
                $( $( if section == stringify!($section) && field == stringify!($field) {
                    let value = <$type as field::Field>::read(given)?;
                    field::Rule::check(&$rule, &value)?;
                    self.$section.$field = value;
                    return Ok(());
                } )* )*
                Err(load::Refused::Unknown)
            }

            /// Every setting with its present value.
            fn sections(&self) -> Vec<schema::SectionInfo> {
                vec![$( schema::SectionInfo {
                    name: stringify!($section),
                    doc: schema::joined(&[$( $section_doc, )*]),
                    fields: vec![$( schema::FieldInfo {
                        name: stringify!($field),
                        doc: schema::joined(&[$( $doc, )*]),
                        rule: field::Rule::<$type>::text(&$rule),
                        value: field::Field::show(&self.$section.$field),
                        secret: <$type as field::Field>::SECRET,
                    }, )*],
                }, )*]
            }
        }
    };
}

pub(super) use config;
