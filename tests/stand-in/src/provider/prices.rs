//! What the stand-in charges: its own integer arithmetic, which shares nothing with the ledger's.

/// Tokens that a request used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Input tokens, cached ones included.
    pub prompt: u64,
    /// Input tokens that were read from a cache.
    pub cached: u64,
    /// Output tokens, those of reasoning included.
    pub completion: u64,
    /// Output tokens of reasoning.
    pub reasoning: u64,
}

/// Prices of one model in pico-dollars (10⁻¹² dollars) per million tokens, and its greatest answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPrices {
    /// Per million uncached input tokens.
    pub input: i128,
    /// Per million input tokens that were read from a cache.
    pub cached_input: i128,
    /// Per million output tokens.
    pub output: i128,
    /// Most output tokens in one choice.
    pub max_output: u64,
}

impl ModelPrices {
    /// Prices without a discount for cached input, and at most 16,384 output tokens in a choice.
    #[must_use]
    pub const fn new(input: i128, output: i128) -> Self {
        Self { input, cached_input: input, output, max_output: 16_384 }
    }

    /// What the tokens cost in pico-dollars; each of the three lines is rounded half up once.
    #[must_use]
    pub fn amount(&self, tokens: Tokens) -> i128 {
        let cached = tokens.cached.min(tokens.prompt);
        line(tokens.prompt - cached, self.input)
            .saturating_add(line(cached, self.cached_input))
            .saturating_add(line(tokens.completion, self.output))
    }
}

/// Whole pico-dollars per token first, then the rest of the price, so that no large product is formed.
fn line(tokens: u64, per_million: i128) -> i128 {
    let tokens = i128::from(tokens);
    let whole = tokens.saturating_mul(per_million.div_euclid(1_000_000));
    let rest = tokens.saturating_mul(per_million.rem_euclid(1_000_000));
    let carry = i128::from(rest % 1_000_000 >= 500_000);
    whole.saturating_add(rest / 1_000_000).saturating_add(carry)
}

/// How the stand-in charges for what it reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charge {
    /// The reported tokens at the listed prices.
    #[default]
    Honest,
    /// So many thousandths more than the reported tokens cost: what a reconciliation has to find.
    MarkedUp {
        /// Thousandths on top.
        per_mille: u32,
    },
}

impl Charge {
    /// The amount that is billed for an amount that would be honest.
    #[must_use]
    pub fn of(self, honest: i128) -> i128 {
        match self {
            Self::Honest => honest,
            Self::MarkedUp { per_mille } => {
                honest.saturating_add(honest.saturating_mul(i128::from(per_mille)) / 1000)
            }
        }
    }
}

/// What a client pays that leaves in the middle of a streamed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeaveCharge {
    /// The whole answer, as if it had stayed.
    #[default]
    Whole,
    /// What had been generated: a line with the difference, below zero, is added to the bill.
    Generated,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        let mini = ModelPrices {
            cached_input: 75_000_000_000,
            ..ModelPrices::new(150_000_000_000, 600_000_000_000)
        };
        let tokens = Tokens { prompt: 374, cached: 0, completion: 44, reasoning: 0 };
        assert_eq!(mini.amount(tokens), 56_100_000 + 26_400_000);
        assert_eq!(mini.amount(Tokens { cached: 100, ..tokens }), 41_100_000 + 7_500_000 + 26_400_000);
        assert_eq!(
            mini.amount(Tokens { cached: 999, ..tokens }),
            28_050_000 + 26_400_000,
            "cached beyond input"
        );
    }

    #[test]
    fn a_line_is_rounded_half_up_once() {
        for (tokens, per_million, expected) in
            [(1, 500_000, 1), (1, 499_999, 0), (3, 1_500_000, 5), (7, 100_000, 1), (1_000_000, 7, 7)]
        {
            assert_eq!(line(tokens, per_million), expected, "{tokens} at {per_million}");
        }
    }

    #[test]
    fn a_mark_up_is_on_top() {
        assert_eq!(Charge::MarkedUp { per_mille: 25 }.of(82_500_000), 84_562_500);
        assert_eq!(Charge::Honest.of(82_500_000), 82_500_000);
    }
}
