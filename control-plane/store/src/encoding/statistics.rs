//! Groups and counts of statistics.

use omniflow_domain::stats::{AnswerClass, Dimension, GroupValue};
use omniflow_domain::time::HOUR_MS;
use omniflow_policy::time::UnixMillis;

use super::Columns;
use crate::error::Result;
use crate::statistics::Counted;

/// Stands for the unknown latency of aggregated calls.
const AGGREGATED: i64 = -1;
/// Stands for a gRPC status other than 0 with a status below 400.
const GRPC_ERROR: i64 = 10;

/// The group of a row. Its first columns are the values of these dimensions; an hour is a number since 1970.
pub fn group<B>(row: &impl Columns<B>, by: &[Dimension]) -> Result<Vec<GroupValue>> {
    by.iter().enumerate().map(|(column, dimension)| group_value(row, column, *dimension)).collect()
}

fn group_value<B>(row: &impl Columns<B>, column: usize, dimension: Dimension) -> Result<GroupValue> {
    let value = match dimension {
        Dimension::Hour => {
            let hour: Option<u64> = row.column(column)?;
            hour.map(|hour| GroupValue::Hour(UnixMillis(hour.saturating_mul(HOUR_MS))))
        }
        Dimension::Key => row.column::<Option<_>>(column)?.map(GroupValue::Key),
        Dimension::Address => row.column::<Option<_>>(column)?.map(GroupValue::Address),
        Dimension::Status => row.column::<Option<_>>(column)?.map(GroupValue::Status),
        Dimension::GrpcStatus => row.column::<Option<_>>(column)?.map(GroupValue::GrpcStatus),
        Dimension::Endpoint | Dimension::Reason => row.column::<Option<_>>(column)?.map(GroupValue::Text),
    };
    Ok(value.unwrap_or(GroupValue::Nothing))
}

/// Calls of one class and latency. Columns, from `first`: the first digit of the status, or 10 for a gRPC status other than 0
/// with a status below 400; the latency, or -1 for aggregated calls; the number of calls.
pub fn counted<B>(row: &impl Columns<B>, first: usize) -> Result<Counted> {
    let class = match row.column::<i64>(first)? {
        4 => AnswerClass::ClientError,
        5 => AnswerClass::ServerError,
        GRPC_ERROR => AnswerClass::GrpcError,
        _ => AnswerClass::Other,
    };
    let latency: i64 = row.column(first + 1)?;
    Ok(Counted {
        class,
        latency: (latency != AGGREGATED).then(|| latency.cast_unsigned()),
        calls: row.column(first + 2)?,
    })
}
