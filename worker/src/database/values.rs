//! What a write takes for `$1`, `$2`, ...: a tuple that owns its values.
//!
//! Handlers pass it to `Database::write`, whose task outlives them, so nothing in it is borrowed
//! from them. Does not know: what the values mean.

use tokio_postgres::types::ToSql;

/// A tuple of values, in the order of the statement's parameters: `(id, name)`; one is `(id,)`.
pub trait Values: 'static {
    /// The values, to be encoded.
    fn params(&self) -> Vec<&(dyn ToSql + Sync)>;
}

/// One implementation per length of the tuple.
macro_rules! values {
    ($($value:ident)+) => {
        impl<$($value: ToSql + Sync + 'static),+> Values for ($($value,)+) {
            fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
                #[expect(non_snake_case, reason = "each value is named as its type")]
                let ($($value,)+) = self;
                vec![$($value),+]
            }
        }
    };
}

values!(A);
values!(A B);
values!(A B C);
values!(A B C D);
values!(A B C D E);
values!(A B C D E F);
values!(A B C D E F G);
values!(A B C D E F G H);
values!(A B C D E F G H I);
values!(A B C D E F G H I J);
values!(A B C D E F G H I J K);
values!(A B C D E F G H I J K L);
