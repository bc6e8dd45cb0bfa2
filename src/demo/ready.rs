//! What the demo tells when it is ready: one JSON line for programs, a table for people.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::secret::Secret;

use super::companion::Companion;
use super::keys::KEYS;

#[derive(Serialize)]
pub struct Ready<'a> {
    pub base_url: String,
    pub console_url: String,
    pub pid: u32,
    pub admin: Admin,
    /// People who can sign in; empty until there is something to sign in to.
    pub users: BTreeMap<&'static str, ()>,
    pub keys: BTreeMap<&'static str, String>,
    pub upstream: &'a Companion,
}

#[derive(Serialize)]
pub struct Admin {
    pub email: Option<&'static str>,
    pub password: Option<&'static str>,
    pub token: String,
}

impl Ready<'_> {
    pub fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// A row for each key, and a line to paste.
    pub fn print_table(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Tallygate demo\n")?;
        writeln!(out, "  base URL      {}", self.base_url)?;
        writeln!(out, "  answer pages  {}/errors", self.console_url)?;
        writeln!(
            out,
            "  upstream      {} (simulated), its bill at {}",
            self.upstream.url, self.upstream.bill_url
        )?;
        writeln!(out, "  payments      {} (simulated)", self.upstream.payments_url)?;
        writeln!(out, "  admin token   {}\n", self.admin.token)?;
        for key in &KEYS {
            let text = self.keys.get(key.name).map_or("", |text| text);
            writeln!(out, "{}: {}", key.name, key.shows)?;
            writeln!(out, "  {}\n", self.curl(text))?;
        }
        writeln!(out, "Stop with Ctrl-C.")?;
        out.flush()
    }

    fn curl(&self, key: &str) -> String {
        format!(
            "curl -s {}/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \
             -d '{{\"model\":\"gpt-5-mini\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'",
            self.base_url
        )
    }
}

/// The texts of all keys, by name.
pub fn texts(of: impl Fn(&super::keys::DemoKey) -> Secret) -> BTreeMap<&'static str, String> {
    KEYS.iter().map(|key| (key.name, of(key).expose().to_owned())).collect()
}
