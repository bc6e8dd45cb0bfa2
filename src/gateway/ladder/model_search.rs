//! "Model not found", in the steps that users are taught: is the name in the list → may the key's group use it →
//! is there a balance → does a channel serve it → did the client rewrite the name → is the base URL right.

use crate::catalogue::{Code, Refusal};
use crate::directory::{ModelEntry, ModelStatus, Snapshot};

use super::case::Case;
use super::evidence::{Evidence, Finding};

/// Near misses shown at most, and how many letters they may differ in.
const NEAR_MISSES_MAX: usize = 3;
const DISTANCE_MAX: usize = 4;
/// Longer names are nobody's typing error, and comparing costs the product of the lengths.
const NAME_BYTES_MAX: usize = 100;

/// Names the models that come nearest.
pub fn not_found(snapshot: &Snapshot, asked: &str) -> Refusal {
    Refusal::new(Code::ModelNotFound)
        .field("model")
        .param("model", asked)
        .param("near_misses", candidates(snapshot, asked))
}

/// What a name was probably meant to be, the likeliest first.
fn candidates(snapshot: &Snapshot, asked: &str) -> Vec<String> {
    let mut names: Vec<String> =
        rewritten(snapshot, asked).map(|(name, _)| name.to_owned()).into_iter().collect();
    for near in near_misses(snapshot, asked) {
        if !names.contains(&near) {
            names.push(near);
        }
    }
    names.truncate(NEAR_MISSES_MAX);
    names
}

/// Names of models that differ from `asked` in a few letters or in case, nearest first.
fn near_misses(snapshot: &Snapshot, asked: &str) -> Vec<String> {
    if asked.len() > NAME_BYTES_MAX {
        return Vec::new();
    }
    let asked = asked.to_lowercase();
    let mut near: Vec<(usize, &str)> = snapshot
        .models()
        .filter(|entry| entry.model.status == ModelStatus::Active)
        .map(|entry| {
            (strsim::damerau_levenshtein(&asked, &entry.model.name.to_lowercase()), &*entry.model.name)
        })
        .filter(|(distance, _)| *distance <= DISTANCE_MAX)
        .collect();
    near.sort_unstable();
    near.into_iter().take(NEAR_MISSES_MAX).map(|(_, name)| name.to_owned()).collect()
}

/// What clients do to names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rewriting {
    /// `openai/gpt-5-mini`
    Prefix,
    /// `gpt-5-mini:free`, `gpt-5-mini@azure`, `gpt-5-mini-latest`, `gpt-5-mini-2025-08-07`
    Suffix,
    /// Other capitals, or other signs between the words.
    Letters,
}

/// The model that a name was before a client rewrote it, if the name shows the traces of that.
fn rewritten<'a>(snapshot: &'a Snapshot, asked: &str) -> Option<(&'a str, Rewriting)> {
    let known = |name: &str| snapshot.model(name).map(|entry| &*entry.model.name);
    let without_prefix = asked.rsplit_once('/').map_or(asked, |(_, rest)| rest);
    let without_suffix = without_suffix(without_prefix);
    if let Some(name) = known(without_prefix).filter(|_| without_prefix != asked) {
        return Some((name, Rewriting::Prefix));
    }
    if let Some(name) = known(without_suffix).filter(|_| without_suffix != without_prefix) {
        return Some((name, Rewriting::Suffix));
    }
    let plain = letters(without_suffix);
    let same = |entry: &&ModelEntry| letters(&entry.model.name) == plain;
    snapshot.models().find(same).map(|entry| (&*entry.model.name, Rewriting::Letters))
}

fn without_suffix(name: &str) -> &str {
    let name = name.split_once([':', '@', '[']).map_or(name, |(name, _)| name);
    let name = name.strip_suffix("-latest").unwrap_or(name);
    // A date: -2025-08-07 or -20250807.
    let is_date = |tail: &str| tail.chars().filter(char::is_ascii_digit).count() == 8;
    [11, 9]
        .into_iter()
        .find_map(|length| {
            let (head, tail) = name.split_at_checked(name.len().checked_sub(length)?)?;
            let shaped = tail.starts_with('-') && tail.chars().all(|c| c.is_ascii_digit() || c == '-');
            (shaped && is_date(tail)).then_some(head)
        })
        .unwrap_or(name)
}

fn letters(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The steps, each with what was found.
pub fn evidence(case: &Case<'_>) -> Vec<Evidence> {
    let (Some(call), Some(caller)) = (case.call, case.caller) else { return Vec::new() };
    let rewritten = rewritten(case.snapshot, &call.model);
    let near = candidates(case.snapshot, &call.model);
    let candidate = case.model.or_else(|| case.snapshot.model(near.first()?));
    let mut steps = vec![listed(case, &near)];
    if let Some(entry) = candidate {
        let name = &entry.model.name;
        steps.push(match caller.group.map(|group| (&group.name, group.contains(name))) {
            None => Evidence::new(
                "group",
                Finding::Pass,
                "the key has no group, so no group keeps it from a model",
                "该 Key 没有分组，不受分组的模型限制",
            ),
            Some((group, contains)) => step(
                "group",
                contains,
                [format!("the group {group} has {name}"), format!("分组 {group} 包含 {name}")],
                [format!("the group {group} does not have {name}"), format!("分组 {group} 不包含 {name}")],
            ),
        });
    }
    if !case.readings.counters.is_empty() {
        steps.push(step(
            "balance",
            case.usable_balance().is_positive(),
            ["the account has a balance".to_owned(), "账户有余额".to_owned()],
            ["the account has no balance".to_owned(), "账户没有余额".to_owned()],
        ));
    }
    if let Some(entry) = candidate {
        let name = &entry.model.name;
        let served = !caller.candidates(case.snapshot, entry).is_empty();
        steps.push(step(
            "channel",
            served,
            [format!("a channel serves {name}"), format!("有通道提供 {name}")],
            [format!("no channel serves {name} to this key"), format!("没有通道向该 Key 提供 {name}")],
        ));
    }
    steps.push(name_arrived(case, call, rewritten.filter(|_| case.model.is_none())));
    let path = case.facts.address.passed().map_or("", |endpoint| endpoint.path());
    steps.push(Evidence::new(
        "base_url",
        Finding::Pass,
        format!("the call came to /v1/{path}: the base URL is right"),
        format!("请求到达 /v1/{path}：Base URL 正确"),
    ));
    steps
}

fn step(check: &'static str, passed: bool, good: [String; 2], bad: [String; 2]) -> Evidence {
    let [en, zh] = if passed { good } else { bad };
    Evidence::new(check, if passed { Finding::Pass } else { Finding::Fail }, en, zh)
}

fn listed(case: &Case<'_>, near: &[String]) -> Evidence {
    let asked = case.call.map_or("", |call| &*call.model);
    if case.model.is_some() {
        let (en, zh) = (format!("{asked} is in the list of models"), format!("{asked} 在模型列表中"));
        return Evidence::new("listed", Finding::Pass, en, zh);
    }
    let (en, zh) = match near.is_empty() {
        true => (
            format!("{asked} is not in the list of models, and nothing like it"),
            format!("{asked} 不在模型列表中，也没有相近的名称"),
        ),
        false => (
            format!("{asked} is not in the list of models; nearest: {}", near.join(", ")),
            format!("{asked} 不在模型列表中；最接近的是：{}", near.join("、")),
        ),
    };
    Evidence::new("listed", Finding::Fail, en, zh)
}

fn name_arrived(
    case: &Case<'_>,
    call: &crate::gateway::facts::CallBody,
    rewritten: Option<(&str, Rewriting)>,
) -> Evidence {
    let asked = &call.model;
    let sdk = match &*case.facts.client.sdk {
        "" => "–",
        sdk => sdk,
    };
    let Some((name, how)) = rewritten else {
        return Evidence::new(
            "rewritten",
            Finding::Looked,
            format!("the name arrived as {asked} from {sdk}; if you set another one, the client rewrote it"),
            format!("收到的名称是 {asked}（客户端 {sdk}）；如与设置不同，说明客户端改写了名称"),
        );
    };
    let (en, zh) = match how {
        Rewriting::Prefix => ("a prefix in front", "加了前缀"),
        Rewriting::Suffix => ("a suffix behind", "加了后缀"),
        Rewriting::Letters => ("other letters", "改了写法"),
    };
    Evidence::new(
        "rewritten",
        Finding::Fail,
        format!("the name arrived as {asked} from {sdk}: {name} with {en}, as clients rewrite names"),
        format!("收到的名称是 {asked}（客户端 {sdk}）：像是 {name} 被客户端{zh}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_that_clients_add_are_seen() {
        for (asked, name) in [
            ("gpt-5-mini:free", "gpt-5-mini"),
            ("gpt-5-mini@azure", "gpt-5-mini"),
            ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5"),
            ("gpt-5-mini-latest", "gpt-5-mini"),
            ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("claude-sonnet-4-5", "claude-sonnet-4-5"),
            ("gpt-4-0613", "gpt-4-0613"),
            ("模型-2025-08-07", "模型"),
            ("-", "-"),
            ("", ""),
        ] {
            assert_eq!(without_suffix(asked), name);
        }
        assert_eq!(letters("GPT 5_Mini"), letters("gpt-5-mini"));
    }
}
