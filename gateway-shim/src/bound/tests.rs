#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::inspect::inspect;
use bursar_schemas::policy::{Provider, Target};

fn price() -> Price {
    let mut price = Price { max_output: Some(1000), context_window: Some(8000), ..Price::default() };
    price.rates.meters.insert(Meter::Input, Money::from_pico(1_000_000));
    price.rates.meters.insert(Meter::Output, Money::from_pico(10_000_000));
    price
}

fn rules(tokenizer: Tokenizer) -> Rules {
    Rules { tokenizer, image: None, audio: false, tool_frame: 0, besides: Besides::Nothing }
}

fn chat(body: &str, tokenizer: Tokenizer) -> Result<Bound, NoBound> {
    let shape = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
    bound(Endpoint::ChatCompletions, &shape, &rules(tokenizer), &price())
}

#[test]
fn text_counts_by_decoded_bytes_and_output_by_cap_and_choices() {
    let short = chat(
        r#"{"model":"m","messages":[{"role":"user","content":"ab"}],"max_tokens":5}"#,
        Tokenizer::ByteLevel,
    )
    .unwrap();
    let long = chat(
        r#"{"model":"m","messages":[{"role":"user","content":"ab\u00e9\ud83d\ude00"}],"max_tokens":5,"n":3}"#,
        Tokenizer::ByteLevel,
    )
    .unwrap();
    // Six more bytes at 1 pico, ten more output tokens at 10.
    assert_eq!(long.amount.pico() - short.amount.pico(), 6 + 100);
    assert_eq!(short.inject, None);
}

#[test]
fn a_normalising_tokenizer_may_make_eleven_of_one() {
    let body =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\u{fdfa}\"}],\"max_tokens\":5}";
    let plain = chat(body, Tokenizer::ByteLevel).unwrap().amount.pico();
    let wide = chat(body, Tokenizer::Normalising).unwrap().amount.pico();
    // Three bytes become 33; each of the two strings may begin with a token of its own.
    assert_eq!(wide - plain, 30 + 2);
}

#[test]
fn a_missing_cap_is_the_models_own_maximum_within_its_window() {
    let body = r#"{"model":"m","messages":[]}"#;
    assert_eq!(chat(body, Tokenizer::ByteLevel).unwrap().inject, Some(1000));
    let mut price = price();
    price.max_output = Some(8000);
    let shape = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
    let found = bound(Endpoint::ChatCompletions, &shape, &rules(Tokenizer::ByteLevel), &price).unwrap();
    assert_eq!(found.inject, None, "input and maximum might be more than the window");
    let whole_window = found.amount;
    price.max_output = None;
    let found = bound(Endpoint::ChatCompletions, &shape, &rules(Tokenizer::ByteLevel), &price).unwrap();
    assert_eq!((found.inject, found.amount), (None, whole_window), "the model's own maximum is unknown");
    price.context_window = None;
    let none = bound(Endpoint::ChatCompletions, &shape, &rules(Tokenizer::ByteLevel), &price);
    assert_eq!(none, Err(NoBound::NoRule("max_completion_tokens".to_owned())));
}

#[test]
fn what_has_no_rule_is_named() {
    let message = |message: &str| format!(r#"{{"model":"m","max_tokens":1,"messages":[{message}]}}"#);
    let option = |option: &str| format!(r#"{{"model":"m","max_tokens":1,"messages":[],{option}}}"#);
    let cases = [
        (
            message(r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}"#),
            "messages[].content[].image_url",
        ),
        (
            message(r#"{"role":"user","content":[{"type":"input_audio"}]}"#),
            "messages[].content[].input_audio",
        ),
        (
            message(r#"{"role":"user","content":[{"type":"file","file":{"file_id":"f-1"}}]}"#),
            "messages[].content[].file",
        ),
        (message(r#"{"role":"user","content":[{"file":{"file_id":"f-1"}}]}"#), "messages[].content[].file"),
        (message(r#"{"role":"assistant","audio":{"id":"a"}}"#), "messages[].audio"),
        (message(r#"{"role":"user","content":"a","secret words":1}"#), "messages[].(unknown)"),
        (option(r#""previous_response_id":"r""#), "previous_response_id"),
        (option(r#""prompt":{"id":"p"}"#), "prompt"),
        (option(r#""tools":[{"type":"mcp","server_url":"http://x"}]"#), "tools"),
        (option(r#""tools":[{"type":"web_search"}]"#), "tools"),
        (option(r#""modalities":["text","audio"]"#), "modalities"),
        (option(r#""service_tier":"priority""#), "service_tier"),
        (option(r#""prediction":{"type":"content"}"#), "prediction"),
        (option(r#""n":1.5"#), "n"),
        (option(r#""max_completion_tokens":-1"#), "max_completion_tokens"),
        (option(r#""max_completion_tokens":0"#), "max_completion_tokens"),
    ];
    for (body, place) in cases {
        assert_eq!(chat(&body, Tokenizer::ByteLevel), Err(NoBound::NoRule(place.to_owned())), "{body}");
    }
    let fine = option(
        r#""temperature":0.5,"user":"u","tools":[{"type":"function","function":{"name":"f"}}],"previous_response_id":null"#,
    );
    assert!(chat(&fine, Tokenizer::ByteLevel).is_ok());
}

#[test]
fn embeddings_have_no_output_and_count_token_ids() {
    let amount = |input: &str| {
        let shape =
            inspect(Endpoint::Embeddings, format!(r#"{{"model":"m","input":{input}}}"#).as_bytes()).unwrap();
        bound(Endpoint::Embeddings, &shape, &rules(Tokenizer::ByteLevel), &price()).unwrap().amount.pico()
    };
    assert_eq!(amount("[1,2,3]") - amount("[1]"), 2);
    assert_eq!(amount("\"abcd\"") - amount("\"a\""), 3);
    assert!(amount(r#"["a","b"]"#) > amount(r#"["a"]"#));
    assert!(inspect(Endpoint::Embeddings, br#"{"model":"m","input":[[[1]]]}"#).is_err());
}

#[test]
fn the_cap_goes_into_the_field_that_the_model_takes() {
    for model in ["o1", "o3-mini", "o4-mini-2025", "gpt-5", "gpt-5.1-mini", "openai/gpt-5-nano", "gpt-10"] {
        assert_eq!(cap_field(model), "max_completion_tokens", "{model}");
    }
    for model in ["gpt-4o", "gpt-4.1", "gpt-3.5-turbo", "ollama", "omni", "llama-3", "gpt-oss-20b"] {
        assert_eq!(cap_field(model), "max_tokens", "{model}");
    }
}

#[test]
fn an_estimate_counts_likely_tokens_and_leaves_aside_what_has_no_rule() {
    let tokens = |content: &str, more: &str| {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"{content}"}}],"max_tokens":5{more}}}"#
        );
        let shape = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        estimate(Endpoint::ChatCompletions, &shape, &price()).unwrap().amount.pico()
    };
    let nothing = tokens("", "");
    // A token for every three bytes of ASCII, "user" included, and for every two of other text.
    assert_eq!(tokens("aaaaaa", "") - nothing, 2);
    assert_eq!(tokens("\u{e9}\u{e9}\u{e9}", "") - nothing, 3);
    assert_eq!(tokens("", r#","web_search_options":{}"#), nothing);
    let hard = chat(
        r#"{"model":"m","messages":[{"role":"user","content":""}],"max_tokens":5}"#,
        Tokenizer::ByteLevel,
    );
    assert!(hard.unwrap().amount.pico() >= nothing, "never above the bound");
}

#[test]
fn a_lowered_cap_is_the_largest_that_can_be_paid() {
    let body = r#"{"model":"m","messages":[],"max_tokens":900,"n":2}"#;
    let whole = chat(body, Tokenizer::ByteLevel).unwrap();
    // Each token of output costs 10 pico-dollars, twice.
    let fixed = whole.amount.pico() - 2 * 900 * 10;
    let lowered = |most: i128| whole.lowered(Money::from_pico(most)).map(|it| (it.inject, it.amount.pico()));
    assert_eq!(lowered(fixed + 2 * 50 * 10), Some((Some(50), fixed + 1000)));
    assert_eq!(lowered(fixed + 2 * 50 * 10 + 19), Some((Some(50), fixed + 1000)));
    assert_eq!(lowered(fixed + 2 * 16 * 10), Some((Some(16), fixed + 320)));
    assert_eq!(lowered(fixed + 2 * 16 * 10 - 1), None, "below the least that is worth a call");
    assert_eq!(lowered(whole.amount.pico()), None, "it fits as it is");
    assert_eq!(lowered(0), None);
    let again = whole.lowered(Money::from_pico(fixed + 1000)).unwrap();
    assert_eq!(again.lowered(Money::from_pico(fixed + 400)).unwrap().inject, Some(20));
    assert_eq!(Bound::NONE.lowered(Money::from_pico(5)), None);
}

#[test]
fn images_and_audio_count_by_the_rules_of_the_target() {
    let part = |part: &str| {
        format!(r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":[{part}]}}]}}"#)
    };
    let seeing = Rules { image: Some(1000), audio: true, ..rules(Tokenizer::ByteLevel) };
    let amount = |body: &str, price: &Price| {
        let shape = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        bound(Endpoint::ChatCompletions, &shape, &seeing, price).map(|it| it.amount.pico())
    };
    let nothing = amount(&part(""), &price()).unwrap();
    let image = |more: &str| {
        let url = "https://example.com/a-long-address-costs-nothing.png";
        part(&format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"{more}}}}}"#))
    };
    // Four for the part, a thousand for the image.
    assert_eq!(amount(&image(""), &price()).unwrap() - nothing, 1004);
    assert_eq!(amount(&image(r#","detail":"low""#), &price()).unwrap() - nothing, 1004);
    let no_rule = |place: &str| Err(NoBound::NoRule(place.to_owned()));
    let place = "messages[].content[].image_url";
    assert_eq!(amount(&image(r#","detail":"original""#), &price()), no_rule(place));
    assert_eq!(amount(&image(r#","resize":512"#), &price()), no_rule(place));
    assert_eq!(amount(&part(r#"{"type":"image_url","image_url":"http://x"}"#), &price()), no_rule(place));

    let odd = part(r#"{"type":"input_audio","input_audio":"beep"}"#);
    assert_eq!(amount(&odd, &price()), no_rule("messages[].content[].input_audio"));
    let data = "A".repeat(1000);
    let audio =
        part(&format!(r#"{{"type":"input_audio","input_audio":{{"data":"{data}","format":"mp3"}}}}"#));
    let place = "messages[].content[].input_audio";
    assert_eq!(amount(&audio, &price()), no_rule(place), "it has no price");
    let mut heard = price();
    heard.rates.meters.insert(Meter::InputAudio, Money::from_pico(7_000_000));
    // Twenty tokens, and everything at audio's price once there is audio.
    assert_eq!(amount(&audio, &heard).unwrap() - 10, (nothing - 10 + 4 + 20) * 7);
    assert_eq!(amount(&part(""), &heard).unwrap(), nothing, "without audio its price does not matter");
}

fn target(vendor: &str, model: &str) -> Target {
    let provider = serde_json::json!({"id": "p", "prices": vendor});
    Target { provider: serde_json::from_value::<Provider>(provider).unwrap().into(), model: model.to_owned() }
}

#[test]
fn an_answer_that_an_sdk_sends_back_has_a_bound() {
    let amount = |more: &str| {
        let body = format!(
            r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"assistant","content":"a"{more}}}]}}"#
        );
        chat(&body, Tokenizer::ByteLevel).map(|it| it.amount.pico())
    };
    let nothing = amount("").unwrap();
    let empty = r#","refusal":null,"annotations":[],"audio":null,"function_call":null,"reasoning":"""#;
    assert_eq!(amount(empty), Ok(nothing));
    for field in ["annotations", "reasoning_content", "reasoning"] {
        assert_eq!(amount(&format!(r#","{field}":"seven b""#)), Ok(nothing + 7), "{field}");
        assert_eq!(amount(&format!(r#","{field}":null"#)), Ok(nothing), "{field}");
    }
    let cited = amount(
        r#","annotations":[{"type":"url_citation","url_citation":{"url":"http://x","start_index":1}}]"#,
    );
    assert!(cited.unwrap() > nothing);
}

#[test]
fn an_escape_counts_as_what_it_stands_for() {
    let amount = |text: &str, place: &str| {
        let body = format!(r#"{{"model":"m","messages":[],"max_tokens":5,{}}}"#, place.replace('@', text));
        chat(&body, Tokenizer::Normalising).unwrap().amount.pico()
    };
    for place in [
        r#""tools":[{"type":"function","function":{"name":"f","description":"@"}}]"#,
        r#""functions":[{"name":"f","description":"@"}]"#,
        r#""response_format":{"type":"json_schema","json_schema":{"name":"@"}}"#,
        r#""tool_choice":{"type":"function","function":{"name":"@"}}"#,
    ] {
        let (plain, escaped) = (amount("\u{fdfa}", place), amount(r"\ufdfa", place));
        assert!(escaped >= plain, "{place}: {escaped} < {plain}");
        assert!(amount(r"\ud83d\ude00", place) >= amount("\u{1f600}", place), "{place}");
    }
}

#[test]
fn a_cap_of_nothing_is_none() {
    for body in [
        r#"{"model":"m","messages":[],"max_tokens":0}"#,
        r#"{"model":"m","messages":[],"max_completion_tokens":5,"max_tokens":0}"#,
    ] {
        assert_eq!(chat(body, Tokenizer::ByteLevel), Err(NoBound::NoRule("max_tokens".to_owned())));
    }
    let shape = inspect(Endpoint::ChatCompletions, br#"{"model":"m","messages":[],"max_tokens":0}"#).unwrap();
    let likely = estimate(Endpoint::ChatCompletions, &shape, &price()).unwrap();
    assert_eq!(likely.inject, Some(1000), "as where none was given");
}

#[test]
fn only_openais_own_models_are_byte_level_and_frame_tools_tersely() {
    for (vendor, model) in [
        ("openai", "gpt-4o"),
        ("openai", "m"),
        ("azure", "gpt-4o-2024-11-20"),
        ("azure", "o3-mini"),
        ("azure", "chatgpt-4o-latest"),
        ("azure", "text-embedding-3-small"),
    ] {
        let rules = Rules::of(&target(vendor, model));
        assert_eq!((rules.tokenizer, rules.tool_frame), (Tokenizer::ByteLevel, 0), "{vendor} {model}");
    }
    for (vendor, model) in
        [("azure", "mistral-large"), ("azure", "deepseek-r1"), ("azure", "omni"), ("anthropic", "gpt-4o")]
    {
        let rules = Rules::of(&target(vendor, model));
        assert_eq!((rules.tokenizer, rules.tool_frame), (Tokenizer::Normalising, 1024), "{vendor} {model}");
    }
    let amount = |tools: &str, tool_frame: u64| {
        let body = format!(r#"{{"model":"m","messages":[],"max_tokens":5{tools}}}"#);
        let shape = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        let rules = Rules { tool_frame, ..rules(Tokenizer::ByteLevel) };
        bound(Endpoint::ChatCompletions, &shape, &rules, &price()).unwrap().amount.pico()
    };
    for tools in [r#","tools":[{"type":"function"}]"#, r#","functions":[{"name":"f"}]"#] {
        assert_eq!(amount(tools, 1024) - amount(tools, 0), 1024);
    }
    for none in ["", r#","tools":[]"#, r#","tools":null,"functions":null"#] {
        assert_eq!(amount(none, 1024), amount(none, 0));
    }
}

#[test]
fn a_model_that_searches_or_draws_by_itself_has_no_bound() {
    let body = r#"{"model":"m","messages":[],"max_tokens":5}"#;
    let shape = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
    let mut by_call = price();
    by_call.rates.meters.insert(Meter::Requests, Money::from_pico(1_000_000));
    let found = |model: &str, price: &Price| {
        bound(Endpoint::ChatCompletions, &shape, &Rules::of(&target("v", model)), price).is_ok()
    };
    for model in [
        "gpt-4o-search-preview-2025-03-11",
        "gpt-5-search-api",
        "o3-deep-research",
        "sonar-deep-research",
        "perplexity/sonar-pro-search",
        "gemini-2.5-flash-image",
        "google/Gemini-3-pro-image-preview",
        "gpt-5-image",
        "anything:online",
        "groq/compound-mini",
    ] {
        assert!(!found(model, &price()) && !found(model, &by_call), "{model}");
    }
    for model in ["sonar", "sonar-pro", "perplexity/sonar-reasoning", "llama-3.1-sonar-small-128k-online"] {
        assert!(!found(model, &price()) && found(model, &by_call), "{model}");
    }
    for model in ["gpt-4o", "gemini-2.5-flash", "claude-sonnet-4-5", "command-r", "deepseek-chat"] {
        assert!(found(model, &price()), "{model}");
    }
}

#[test]
fn what_a_target_takes_is_known_by_its_provider() {
    for (vendor, model, one) in [
        ("deepseek", "deepseek-chat", true),
        ("mistral", "mistral-large", true),
        ("openai", "gpt-4o", false),
        ("azure", "gpt-4o", false),
        ("openrouter", "openai/gpt-5", false),
    ] {
        assert_eq!(knows_one_cap(&target(vendor, model)), one, "{vendor} {model}");
    }
    assert!(!takes_stream_options(&target("mistral", "mistral-large")));
    assert!(takes_stream_options(&target("openai", "gpt-4o")));
}

#[test]
fn a_body_of_too_many_fields_is_refused_for_that() {
    let fields: String = (0..256).map(|index| format!(r#","f{index}":1"#)).collect();
    let body = format!(r#"{{"model":"m"{fields}}}"#);
    let refused = inspect(Endpoint::ChatCompletions, body.as_bytes());
    assert_eq!(refused, Err(crate::inspect::BodyError::ManyFields));
}

#[test]
fn a_tier_that_is_left_to_the_provider_may_be_the_dearest() {
    let mut price = price();
    let mut priority = bursar_schemas::price::Rates::default();
    priority.meters.insert(Meter::Output, Money::from_pico(20_000_000));
    price.service_tiers.insert("priority".to_owned(), priority);
    let amount = |tier: &str| {
        let body = format!(r#"{{"model":"m","messages":[],"max_tokens":5{tier}}}"#);
        let shape = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        bound(Endpoint::ChatCompletions, &shape, &rules(Tokenizer::ByteLevel), &price).unwrap().amount.pico()
    };
    let nothing = amount("");
    assert_eq!(amount(r#","service_tier":"default""#), nothing);
    assert_eq!(amount(r#","service_tier":"priority""#), nothing + 50);
    assert_eq!(amount(r#","service_tier":"auto""#), nothing + 50);
}
