//! Rows without a driver.

use std::net::IpAddr;

use omniflow_domain::anomaly::Network;
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use super::{address, digest, from_millis};
use crate::error::{Result, StoreError};

/// A database row, independent of the driver. `B` is a marker type of the backend's crate: Rust's orphan rule requires a local type
/// to implement this trait for a driver's row.
///
/// The methods for single types return `None` for NULL, and fail if the column has another type.
pub trait Columns<B> {
    /// An integer of any size.
    fn integer(&self, index: usize) -> Result<Option<i64>>;

    /// A text.
    fn text(&self, index: usize) -> Result<Option<&str>>;

    /// Bytes.
    fn bytes(&self, index: usize) -> Result<Option<&[u8]>>;

    /// An identifier.
    fn uuid(&self, index: usize) -> Result<Option<Uuid>>;

    /// A truth value.
    fn boolean(&self, index: usize) -> Result<Option<bool>>;

    /// The value of a column.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the value is not one of `T`.
    fn column<'r, T: Column<'r>>(&'r self, index: usize) -> Result<T>
    where
        Self: Sized,
    {
        T::read(self, index)
    }
}

/// What a column contains: a [`Value`], or an `Option` of one.
pub trait Column<'r>: Sized {
    /// Reads the column.
    fn read<B, R: Columns<B>>(row: &'r R, index: usize) -> Result<Self>;
}

/// A value of a column.
pub trait Value<'r>: Sized {
    /// Reads the column; `None` for NULL.
    fn decode<B, R: Columns<B>>(row: &'r R, index: usize) -> Result<Option<Self>>;
}

impl<'r, T: Value<'r>> Column<'r> for Option<T> {
    fn read<B, R: Columns<B>>(row: &'r R, index: usize) -> Result<Self> {
        T::decode(row, index)
    }
}

impl<'r, T: Value<'r>> Column<'r> for T {
    fn read<B, R: Columns<B>>(row: &'r R, index: usize) -> Result<Self> {
        T::decode(row, index)?.ok_or(StoreError::Corrupt("an unexpected NULL"))
    }
}

/// Implements [`Value`] for types that are read by one method, and then converted.
macro_rules! values {
    ($($method:ident $value:ty: $convert:expr;)*) => {$(
        impl<'r> Value<'r> for $value {
            fn decode<B, R: Columns<B>>(row: &'r R, index: usize) -> Result<Option<Self>> {
                row.$method(index)?.map($convert).transpose()
            }
        }
    )*};
}

values! {
    integer i64: Ok;
    integer u64: |number| Ok(number.cast_unsigned());
    integer u32: narrowed;
    integer u16: narrowed;
    integer UnixMillis: |millis| Ok(from_millis(millis));
    text &'r str: Ok;
    text String: |text| Ok(text.to_owned());
    bytes &'r [u8]: Ok;
    bytes Vec<u8>: |bytes| Ok(bytes.to_vec());
    bytes Digest: digest;
    bytes IpAddr: address;
    bytes Network: |prefix| Network::from_prefix(prefix).ok_or(StoreError::Corrupt("a network"));
    uuid Uuid: Ok;
    boolean bool: Ok;
}

/// A number that is stored in a larger, signed type.
fn narrowed<T: TryFrom<i64>>(number: i64) -> Result<T> {
    T::try_from(number).map_err(|_| StoreError::Corrupt("a number"))
}
