//! The feed: brings the chunks of the units, in order, as the memory gauge admits them.

use arrow::datatypes::DataType;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::gauge::{Gauge, Reservation};
use super::scheduler::{OpenUnit, ReadyChunk};
use super::{FinishedUnit, Shared, Supply, UnitSource};
use crate::error::{Error, Result};
use crate::plan::Unit;
use crate::read::{Chunk, ChunkReader, Layout, Reader};
use crate::telemetry::metrics::Stage;
use crate::write::UnitEncoder;
use crate::write::columns::OutputColumn;

/// Chunks being fetched at the same time, beside what the gauge allows: hides the latency of a store.
const PARALLEL_FETCHES: usize = 4;

/// What the columns take that the model adds, as a share of the unit's compressed input, where their types don't tell.
const OUTPUT_SHARE: u64 = 4;

/// Bytes per row of the columns that the model adds; `None` if that depends on their values.
fn added_row_bytes(outputs: &[OutputColumn]) -> Option<u64> {
    fn width(data_type: &DataType) -> Option<u64> {
        match data_type {
            DataType::Boolean => Some(1),
            DataType::FixedSizeBinary(bytes) => u64::try_from(*bytes).ok(),
            DataType::FixedSizeList(item, items) => {
                Some(width(item.data_type())? * u64::try_from(*items).ok()?)
            }
            DataType::Struct(fields) => fields.iter().map(|field| width(field.data_type())).sum(),
            other => other.primitive_width().map(|bytes| bytes as u64),
        }
    }
    outputs.iter().map(|output| width(output.field.data_type())).sum()
}

/// Bytes that a unit holds until it is stored.
///
/// Chunks of which columns are copied stay as they were fetched: those bytes are input and output at once, so they are
/// reserved here, all of the unit's at once, and not again when they are fetched. To reserve chunk by chunk and give
/// nothing back before the end could leave every unit waiting for its last chunk. What is encoded again takes about as much
/// as it did in the input.
fn output_bytes(unit: &Unit, layout: &Layout, added_row_bytes: Option<u64>) -> u64 {
    let added = match added_row_bytes {
        Some(bytes) => unit.rows.saturating_mul(bytes),
        None => unit.bytes / OUTPUT_SHARE,
    };
    let of_chunk = |chunk: &Chunk| match chunk.spliced_bytes {
        0 => chunk.bytes,
        spliced => chunk.bytes + (chunk.bytes - spliced),
    };
    layout.chunks.iter().map(of_chunk).sum::<u64>() + added
}

/// Bytes that a chunk holds until it is decoded, beyond those of its unit.
fn passing_bytes(chunk: &Chunk) -> u64 {
    match chunk.spliced_bytes {
        0 => chunk.bytes,
        _ => 0,
    }
}

/// Feeds all units; tells the scheduler when it is done or why it failed.
pub(super) async fn feed(shared: Arc<Shared>, reader: Reader, source: impl UnitSource, gauge: Arc<Gauge>) {
    match feed_units(shared.clone(), Arc::new(reader), source, gauge).await {
        Ok(Rest::Finish) => shared.scheduler.no_more_units(),
        Ok(Rest::Drop) => shared.scheduler.abort(),
        Err(error) => shared.fail(error),
    }
}

/// What becomes of the units in work when the source has no more.
enum Rest {
    Finish,
    Drop,
}

/// A chunk on its way, in order.
struct Arriving {
    order: usize,
    blocks: usize,
    fetch: JoinHandle<Result<(ChunkReader, Reservation)>>,
}

async fn feed_units(
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    source: impl UnitSource,
    gauge: Arc<Gauge>,
) -> Result<Rest> {
    let (sender, mut arriving) = mpsc::channel::<Arriving>(PARALLEL_FETCHES);
    let admit = admit_units(shared.clone(), reader, source, gauge, sender);
    let deliver = async {
        while let Some(Arriving { order, blocks, fetch }) = arriving.recv().await {
            let fetched = fetch
                .await
                .map_err(|error| Error::internal("fetching a chunk was cut off").with_source(error))?;
            let (reader, reservation) = fetched?;
            shared.scheduler.submit(
                order,
                ReadyChunk {
                    reader,
                    blocks,
                    _reservation: reservation,
                },
            );
        }
        Ok(())
    };
    let (rest, ()) = futures::future::try_join(admit, deliver).await?;
    Ok(rest)
}

/// Opens unit after unit, reserves memory in order and starts the fetches.
async fn admit_units(
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    mut source: impl UnitSource,
    gauge: Arc<Gauge>,
    sender: mpsc::Sender<Arriving>,
) -> Result<Rest> {
    let added_row_bytes = added_row_bytes(&shared.outputs);
    for order in 0.. {
        let unit = match source.next().await? {
            Supply::Unit(unit) => unit,
            Supply::NoMore => break,
            Supply::Enough => return Ok(Rest::Drop),
        };
        let opened = {
            let _timer = shared.metrics.timer(Stage::Fetch);
            reader.open(&unit).await
        };
        let layout = opened.map_err(|error| error.with("unit", unit.id))?;
        let Some(first) = layout.chunks.first() else {
            finish_empty(&shared, unit).await?;
            continue;
        };
        let like = &first.pieces[0];
        let encoder = UnitEncoder::new(
            shared.form.clone(),
            Some(&like.footer.row_groups()[like.row_group]),
        );
        let slot = gauge.slot().await?;
        let output = gauge
            .reserve(output_bytes(&unit, &layout, added_row_bytes))
            .await?;
        let block_counts = layout.chunks.iter().map(Chunk::blocks).collect();
        shared
            .scheduler
            .open(order, OpenUnit::new(unit, encoder, block_counts, slot, output));
        for chunk in layout.chunks {
            let reservation = gauge.reserve(passing_bytes(&chunk)).await?;
            let blocks = chunk.blocks();
            let fetch = tokio::spawn(fetch(shared.clone(), reader.clone(), chunk, reservation));
            let arriving = Arriving { order, blocks, fetch };
            if sender.send(arriving).await.is_err() {
                // The delivering half failed and says why.
                return Ok(Rest::Finish);
            }
        }
    }
    Ok(Rest::Finish)
}

async fn fetch(
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    chunk: Chunk,
    reservation: Reservation,
) -> Result<(ChunkReader, Reservation)> {
    let _timer = shared.metrics.timer(Stage::Fetch);
    let fetched = reader.fetch(&chunk).await?;
    shared.metrics.bytes_read.add(chunk.bytes);
    Ok((fetched, reservation))
}

async fn finish_empty(shared: &Shared, unit: Unit) -> Result<()> {
    let finished = FinishedUnit {
        unit,
        files: Vec::new(),
        stage_secs: Vec::new(),
        _reservation: None,
    };
    shared
        .finished
        .send(finished)
        .await
        .map_err(|_| Error::internal("nobody takes finished units"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;

    #[test]
    fn widths_of_added_columns_are_known_where_types_tell() {
        let column = |data_type| OutputColumn {
            output: 0,
            field: Arc::new(Field::new("added", data_type, true)),
        };
        let vector = |item| {
            let item = Arc::new(Field::new("item", item, true));
            column(DataType::FixedSizeList(item, 384))
        };
        assert_eq!(added_row_bytes(&[]), Some(0));
        assert_eq!(
            added_row_bytes(&[column(DataType::Int64), column(DataType::Boolean)]),
            Some(9)
        );
        assert_eq!(added_row_bytes(&[vector(DataType::Float32)]), Some(1536));
        assert_eq!(added_row_bytes(&[vector(DataType::Utf8)]), None);
        assert_eq!(
            added_row_bytes(&[column(DataType::Int64), column(DataType::Utf8)]),
            None
        );
    }
}
