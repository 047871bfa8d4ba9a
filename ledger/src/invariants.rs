//! What holds of a ledger at every moment, numbered. Tests ask after every step.
//!
//! | | Holds |
//! |---|---|
//! | L1 | the books of each account add up: limit = settled + reserved + leased idle + stranded + available |
//! | L2 | nothing that is shown as settled, reserved, idle or stranded is below nothing |
//! | L3 | available = limit − committed − what is beside every lease, unless a lease was used above its amount |
//! | L4 | what a ledger may still grant is never more than limit − committed, as the fold has them |
//! | L5 | a blocking account is committed above its limit only after its limit was cut |
//! | L6 | whoever does not act has no decision under way |

use bursar_schemas::facts::Mode;
use bursar_schemas::money::Money;

use crate::books::AccountBooks;
use crate::core::{Core, Standing};

/// An invariant that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("L{number} does not hold at {budget} / {window}: {detail}")]
pub struct Broken {
    /// Which one.
    pub number: u8,
    /// The budget.
    pub budget: String,
    /// The window.
    pub window: i64,
    /// What is so instead.
    pub detail: String,
}

fn broken(number: u8, books: &AccountBooks, detail: impl Into<String>) -> Result<(), Broken> {
    Err(Broken { number, budget: books.budget.clone(), window: books.window, detail: detail.into() })
}

fn l1_books_add_up(books: &AccountBooks) -> Result<(), Broken> {
    let parts = [books.settled, books.reserved, books.leased_idle, books.stranded, books.available];
    let sum: Money = parts.into_iter().sum();
    if sum == books.limit { Ok(()) } else { broken(1, books, format!("{sum} is not {}", books.limit)) }
}

fn l2_nothing_below_nothing(books: &AccountBooks) -> Result<(), Broken> {
    let parts = [books.settled, books.reserved, books.leased_idle, books.stranded, books.overrun];
    if parts.iter().all(|part| *part >= Money::ZERO) {
        Ok(())
    } else {
        broken(2, books, format!("{parts:?}"))
    }
}

fn l3_available_is_what_is_not_committed(core: &Core, books: &AccountBooks) -> Result<(), Broken> {
    let (leased, beside) = core.leased_and_beside(&books.account());
    let used_above = leased.plus(books.leased_idle).minus_or_zero(books.committed);
    let expected = books.limit.minus(books.committed).minus(beside).minus(used_above);
    if books.available == expected {
        Ok(())
    } else {
        broken(3, books, format!("{} is not {expected}", books.available))
    }
}

fn l4_no_more_to_grant_than_the_fold_allows(core: &Core, books: &AccountBooks) -> Result<(), Broken> {
    let grantable = core.grantable(&books.account());
    let free = books.limit.minus(books.committed);
    if grantable <= free { Ok(()) } else { broken(4, books, format!("{grantable} is more than {free}")) }
}

fn l6_only_who_acts_decides(core: &Core) -> Result<(), Broken> {
    let count = core.under_way();
    if count == 0 || matches!(core.standing(), Standing::Acting { .. }) {
        return Ok(());
    }
    let detail = format!("{count} decisions are under way");
    Err(Broken { number: 6, budget: String::new(), window: 0, detail })
}

/// L5: holds while no limit of the budget was ever cut, which only the caller knows.
///
/// # Errors
/// When it does not hold.
pub fn l5_committed_within_limit(books: &AccountBooks) -> Result<(), Broken> {
    if !blocks(books) || books.committed <= books.limit {
        Ok(())
    } else {
        broken(5, books, format!("{} is more than {}", books.committed, books.limit))
    }
}

const fn blocks(books: &AccountBooks) -> bool {
    matches!(books.mode, Mode::Hard | Mode::Bounded)
}

/// Checks L1 to L4 at every account, and L6.
///
/// # Errors
/// The first that does not hold.
pub fn check(core: &Core) -> Result<(), Broken> {
    l6_only_who_acts_decides(core)?;
    for books in core.books() {
        l1_books_add_up(&books)?;
        l2_nothing_below_nothing(&books)?;
        l3_available_is_what_is_not_committed(core, &books)?;
        l4_no_more_to_grant_than_the_fold_allows(core, &books)?;
    }
    Ok(())
}
