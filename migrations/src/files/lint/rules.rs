//! Which of squawk's rules are looked at, and what each is about.
//!
//! `squawk` asks. Left out on purpose: timeouts (the runner sets both), `if exists` everywhere (it
//! hides errors from a transaction that would undo them), bigger or other types (taste), dropping
//! constraints, indexes and triggers (`set not null` without a long lock ends with dropping one).

use squawk_linter::Rule;

use super::Severity;

/// Why a rule is there; it decides what becomes of its findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concern {
    /// Others wait for as long as the table is big.
    Lock,
    /// Data is lost; the header `allow-destructive` permits it.
    Loss,
    /// The file would not be applied as one.
    Atomicity,
    /// The release before, still running, may fail.
    Release,
    /// A statement says something else than what was likely meant.
    Slip,
}

impl Concern {
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::Lock | Self::Loss | Self::Atomicity => Severity::Error,
            Self::Release | Self::Slip => Severity::Warning,
        }
    }

    /// Whether a table that nobody else has seen yet cannot be concerned.
    pub(super) fn needs_users(self) -> bool {
        matches!(self, Self::Lock | Self::Loss | Self::Release)
    }
}

/// The rules, each with its concern.
pub(super) const RULES: [(Rule, Concern); 42] = [
    (Rule::RequireConcurrentIndexCreation, Concern::Lock),
    (Rule::RequireConcurrentIndexDeletion, Concern::Lock),
    (Rule::RequireConcurrentReindex, Concern::Lock),
    (Rule::RequireConcurrentPartitionDetach, Concern::Lock),
    (Rule::ConstraintMissingNotValid, Concern::Lock),
    (Rule::AddingForeignKeyConstraint, Concern::Lock),
    (Rule::DisallowedUniqueConstraint, Concern::Lock),
    (Rule::AddingSerialPrimaryKeyField, Concern::Lock),
    (Rule::AddingNotNullableField, Concern::Lock),
    (Rule::AddingFieldWithDefault, Concern::Lock),
    (Rule::BanDropDatabase, Concern::Loss),
    (Rule::BanDropSchema, Concern::Loss),
    (Rule::BanDropExtension, Concern::Loss),
    (Rule::BanDropTable, Concern::Loss),
    (Rule::BanDropColumn, Concern::Loss),
    (Rule::BanDropView, Concern::Loss),
    (Rule::BanDropType, Concern::Loss),
    (Rule::BanDropDomain, Concern::Loss),
    (Rule::BanDropSequence, Concern::Loss),
    (Rule::BanDropFunction, Concern::Loss),
    (Rule::BanTruncateCascade, Concern::Loss),
    // The runner refuses what it sees of these before anything else; here they are seen twice.
    (Rule::BanConcurrentIndexCreationInTransaction, Concern::Atomicity),
    (Rule::TransactionNesting, Concern::Atomicity),
    (Rule::BanUncommittedTransaction, Concern::Atomicity),
    // Not a lock: whether the table is rewritten depends on the type before, which is not here.
    (Rule::ChangingColumnType, Concern::Release),
    (Rule::AddingRequiredField, Concern::Release),
    (Rule::RenamingColumn, Concern::Release),
    (Rule::RenamingTable, Concern::Release),
    (Rule::RenamingObject, Concern::Release),
    (Rule::BanDropNotNull, Concern::Release),
    (Rule::BanDropDefault, Concern::Release),
    (Rule::BanDropGeneratedExpression, Concern::Release),
    (Rule::BanSetSchema, Concern::Release),
    (Rule::BanAlterIdentity, Concern::Release),
    (Rule::BanAlterDomainWithAddConstraint, Concern::Release),
    (Rule::BanCreateDomainWithConstraint, Concern::Slip),
    (Rule::IdentifierTooLong, Concern::Slip),
    (Rule::RequireEnumValueOrdering, Concern::Slip),
    (Rule::PreferTimestampTz, Concern::Slip),
    (Rule::PreferIdentity, Concern::Slip),
    (Rule::BanCharField, Concern::Slip),
    (Rule::BanDuplicateColumnAssignments, Concern::Slip),
];

/// What a finding is about; a misspelt `squawk-ignore` has a rule that is not in the list.
pub(super) fn concern(rule: Rule) -> Concern {
    RULES.iter().find(|(known, _)| *known == rule).map_or(Concern::Slip, |(_, concern)| *concern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blocks_others_loses_data_or_halves_a_file_is_an_error() {
        use Concern::{Atomicity, Lock, Loss, Release, Slip};
        for concern in [Lock, Loss, Atomicity] {
            assert_eq!(concern.severity(), Severity::Error, "{concern:?}");
        }
        for concern in [Release, Slip] {
            assert_eq!(concern.severity(), Severity::Warning, "{concern:?}");
        }
    }
}
