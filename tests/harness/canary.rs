//! Words that must be found nowhere, and a policy whose provider is called with one of them.

/// Stands in prompts.
pub const PROMPT: &str = "canary-prompt-7f3a9c";
/// The provider's key.
pub const KEY: &str = "canary-provider-key-51d2e8";

/// A team with a hard budget, and a provider whose key is in the environment.
pub fn policy(base: &str) -> String {
    format!(
        r#"
[[organisation]]
id = "acme"
[[team]]
id = "red"
organisation = "acme"
[[budget]]
id = "red-day"
scope = "team:red"
window = "day"
amount = "10.00"
[[provider]]
id = "openai"
base_url = "{base}"
api_key = "env:CANARY_KEY"
[[model]]
id = "small"
targets = [{{ provider = "openai", model = "gpt-4o-mini" }}]
"#
    )
}
