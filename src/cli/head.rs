//! `floe head`: the first rows of a Parquet folder, as a table.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use floe::error::{Error, Result};
use floe::plan::list;
use floe::read::head;
use floe::telemetry::text::is_treacherous;

use super::{HeadArgs, say, storage};

/// Longest cell of a table.
const CELL_CHARS: usize = 40;

/// Prints the rows.
pub async fn head(args: HeadArgs) -> Result<()> {
    let location = storage(args.stages)?.open(&args.location).await?;
    let listed = location.list().await?;
    let is_file = location.is_object().await?;
    let pattern = (!is_file).then_some("**/*.parquet");
    let files = list::select(listed, pattern, None)?.files;
    let batches = head::head(&location, &files, args.rows, args.columns.as_deref()).await?;
    let Some(first) = batches.first() else {
        return Ok(());
    };
    let schema = first.schema();
    let mut names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    if let Some(asked) = &args.columns {
        // The file's order is not the one that was asked for.
        names.sort_by_key(|name| asked.iter().position(|other| other.eq_ignore_ascii_case(name)));
    }
    let mut rows = Vec::new();
    for batch in &batches {
        rows.extend(cells(batch, &names)?);
    }
    if args.json {
        for row in rows {
            let pairs = names
                .iter()
                .cloned()
                .zip(row.into_iter().map(serde_json::Value::from));
            say::json_line(&serde_json::Value::Object(pairs.collect()));
        }
        return Ok(());
    }
    print_table(&names, &rows);
    Ok(())
}

/// The cells of a batch as text, row by row.
fn cells(batch: &RecordBatch, names: &[String]) -> Result<Vec<Vec<Option<String>>>> {
    let unreadable = |error| Error::data("can't show the values").with_source(error);
    let options = FormatOptions::default();
    let mut rows = vec![Vec::with_capacity(names.len()); batch.num_rows()];
    for name in names {
        let column = batch
            .column_by_name(name)
            .ok_or_else(|| Error::data("files differ in their columns").with("column", name))?;
        let format = ArrayFormatter::try_new(column, &options).map_err(unreadable)?;
        for (index, row) in rows.iter_mut().enumerate() {
            let is_null = arrow::array::Array::is_null(column, index);
            row.push((!is_null).then(|| format.value(index).to_string()));
        }
    }
    Ok(rows)
}

fn print_table(names: &[String], rows: &[Vec<Option<String>>]) {
    let shown = |cell: &Option<String>| shorten(cell.as_deref().unwrap_or("null"));
    let names: Vec<String> = names.iter().map(|name| shorten(name)).collect();
    let widths: Vec<usize> = names
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let cells = rows.iter().map(|row| shown(&row[column]).chars().count());
            cells.chain([name.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: Vec<String>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        println!("{}", padded.join("  ").trim_end());
    };
    line(names);
    for row in rows {
        line(row.iter().map(shown).collect());
    }
}

/// One line, of bounded length, without control characters.
fn shorten(text: &str) -> String {
    let clean = |c: char| if is_treacherous(c) { ' ' } else { c };
    if text.chars().count() <= CELL_CHARS {
        return text.chars().map(clean).collect();
    }
    text.chars()
        .take(CELL_CHARS - 1)
        .map(clean)
        .chain(['…'])
        .collect()
}
