//! Parquet files made by hand, so that they can say what no writer would.

use bytes::Bytes;

/// Physical types, as the format numbers them.
pub const INT32: i64 = 1;
pub const INT96: i64 = 3;
pub const BYTE_ARRAY: i64 = 6;
pub const FIXED: i64 = 7;

pub const REQUIRED: i64 = 0;
pub const OPTIONAL: i64 = 1;
pub const REPEATED: i64 = 2;

/// Codecs.
pub const PLAIN: i64 = 0;
pub const SNAPPY: i64 = 1;
pub const GZIP: i64 = 2;
pub const BROTLI: i64 = 4;
pub const ZSTD: i64 = 6;

/// Encodings.
pub const RLE_DICTIONARY: i64 = 8;
pub const DELTA_LENGTH: i64 = 6;
pub const DELTA_BYTES: i64 = 7;

/// A struct in Thrift's compact protocol.
#[derive(Clone, Default)]
pub struct Struct {
    bytes: Vec<u8>,
    last: i64,
}

pub fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn zigzag(value: i64, out: &mut Vec<u8>) {
    varint(((value << 1) ^ (value >> 63)) as u64, out);
}

impl Struct {
    pub fn new() -> Struct {
        Struct::default()
    }

    fn field(mut self, id: i64, kind: u8) -> Struct {
        self.bytes.push((((id - self.last) as u8) << 4) | kind);
        self.last = id;
        self
    }

    pub fn i32(self, id: i64, value: i64) -> Struct {
        let mut next = self.field(id, 5);
        zigzag(value, &mut next.bytes);
        next
    }

    pub fn i64(self, id: i64, value: i64) -> Struct {
        let mut next = self.field(id, 6);
        zigzag(value, &mut next.bytes);
        next
    }

    pub fn text(self, id: i64, text: &str) -> Struct {
        let mut next = self.field(id, 8);
        varint(text.len() as u64, &mut next.bytes);
        next.bytes.extend(text.as_bytes());
        next
    }

    pub fn flag(self, id: i64, value: bool) -> Struct {
        self.field(id, if value { 1 } else { 2 })
    }

    pub fn sub(self, id: i64, value: Struct) -> Struct {
        let mut next = self.field(id, 12);
        next.bytes.extend(value.end());
        next
    }

    /// `of` is the type of the items: 12 for structs, 5 for numbers, 8 for texts.
    pub fn list(self, id: i64, of: u8, items: Vec<Vec<u8>>) -> Struct {
        let mut next = self.field(id, 9);
        next.bytes.push(0xf0 | of);
        varint(items.len() as u64, &mut next.bytes);
        next.bytes.extend(items.concat());
        next
    }

    pub fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

/// An element of a schema: a leaf, or a group when it has children.
pub fn element(
    name: &str,
    repetition: i64,
    physical: Option<i64>,
    length: Option<i64>,
    children: i64,
) -> Struct {
    let mut element = Struct::new();
    if let Some(physical) = physical {
        element = element.i32(1, physical);
    }
    if let Some(length) = length {
        element = element.i32(2, length);
    }
    element = element.i32(3, repetition).text(4, name);
    if children > 0 {
        element = element.i32(5, children);
    }
    element
}

/// A page: its header, then its body.
pub fn page(header: Struct, body: &[u8]) -> Vec<u8> {
    let mut page = header.end();
    page.extend(body);
    page
}

pub fn data_header(uncompressed: i64, compressed: i64, values: i64, encoding: i64) -> Struct {
    let data = Struct::new().i32(1, values).i32(2, encoding).i32(3, 3).i32(4, 3);
    Struct::new()
        .i32(1, 0)
        .i32(2, uncompressed)
        .i32(3, compressed)
        .sub(5, data)
}

/// A data page whose header says the truth about an uncompressed body.
pub fn data_page(values: i64, encoding: i64, body: &[u8]) -> Vec<u8> {
    page(
        data_header(body.len() as i64, body.len() as i64, values, encoding),
        body,
    )
}

pub fn dictionary_page(values: i64, body: &[u8]) -> Vec<u8> {
    let length = body.len() as i64;
    let header = Struct::new().i32(1, 2).i32(2, length).i32(3, length);
    page(header.sub(7, Struct::new().i32(1, values).i32(2, 0)), body)
}

/// A column and its one chunk.
#[derive(Clone)]
pub struct Column {
    pub name: String,
    pub physical: i64,
    pub repetition: i64,
    pub length: Option<i64>,
    pub codec: i64,
    pub has_dictionary: bool,
    pub values: i64,
    pub uncompressed: i64,
    pub chunk: Vec<u8>,
    /// `None`: where the chunk is.
    pub offset: Option<i64>,
    pub compressed: Option<i64>,
    pub is_encrypted: bool,
    /// Further numbers of the schema's element: 6 is the converted type, 7 the scale, 8 the precision.
    pub annotation: Vec<(i64, i64)>,
}

pub fn column(name: &str, physical: i64, values: i64, chunk: Vec<u8>) -> Column {
    Column {
        name: name.into(),
        physical,
        repetition: REQUIRED,
        length: None,
        codec: PLAIN,
        has_dictionary: false,
        values,
        uncompressed: chunk.len() as i64,
        chunk,
        offset: None,
        compressed: None,
        is_encrypted: false,
        annotation: vec![],
    }
}

/// A file of one row group. `declared` rows are the file's, `rows` the row group's.
pub fn file_of(columns: &[Column], rows: i64, declared: i64) -> Bytes {
    file_of_groups(&[columns], rows, declared)
}

/// A file of several row groups of the same columns and number of rows.
pub fn file_of_groups(groups: &[&[Column]], rows: i64, declared: i64) -> Bytes {
    described(groups, rows, declared, None)
}

/// A file of one row group that says who wrote it.
pub fn file_by(created_by: &str, columns: &[Column], rows: i64) -> Bytes {
    described(&[columns], rows, rows, Some(created_by))
}

fn described(groups: &[&[Column]], rows: i64, declared: i64, created_by: Option<&str>) -> Bytes {
    let mut file = b"PAR1".to_vec();
    let mut described = Vec::new();
    for columns in groups {
        let chunks = columns.iter().map(|column| chunk(column, &mut file)).collect();
        let group = Struct::new()
            .list(1, 12, chunks)
            .i64(2, columns.iter().map(|column| column.uncompressed).sum())
            .i64(3, rows);
        described.push(group.end());
    }
    let columns = groups[0];
    let mut schema = vec![element("root", REQUIRED, None, None, columns.len() as i64).end()];
    for column in columns {
        let leaf = element(
            &column.name,
            column.repetition,
            Some(column.physical),
            column.length,
            0,
        );
        let annotated = column
            .annotation
            .iter()
            .fold(leaf, |leaf, (id, value)| leaf.i32(*id, *value));
        schema.push(annotated.end());
    }
    let footer = Struct::new()
        .i32(1, 1)
        .list(2, 12, schema)
        .i64(3, declared)
        .list(4, 12, described);
    let footer = match created_by {
        Some(created_by) => footer.text(6, created_by),
        None => footer,
    };
    finish(file, footer.end())
}

/// Appends the column's chunk to the file and describes it.
fn chunk(column: &Column, file: &mut Vec<u8>) -> Vec<u8> {
    let start = column.offset.unwrap_or(file.len() as i64);
    let mut metadata = Struct::new()
        .i32(1, column.physical)
        .list(2, 5, vec![vec![0]])
        .list(
            3,
            8,
            vec![[&[column.name.len() as u8], column.name.as_bytes()].concat()],
        )
        .i32(4, column.codec)
        .i64(5, column.values)
        .i64(6, column.uncompressed)
        .i64(7, column.compressed.unwrap_or(column.chunk.len() as i64))
        .i64(9, start);
    if column.has_dictionary {
        metadata = metadata.i64(11, start);
    }
    file.extend(&column.chunk);
    let chunk = Struct::new().i64(2, 0).sub(3, metadata);
    match column.is_encrypted {
        true => chunk.sub(8, Struct::new().sub(1, Struct::new())).end(),
        false => chunk.end(),
    }
}

pub fn file(columns: &[Column], rows: i64) -> Bytes {
    file_of(columns, rows, rows)
}

/// Footer, its length and the magic, behind what there is.
pub fn finish(mut file: Vec<u8>, footer: Vec<u8>) -> Bytes {
    file.extend(&footer);
    file.extend((footer.len() as u32).to_le_bytes());
    file.extend(b"PAR1");
    file.into()
}

/// A text as PLAIN has it.
pub fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text].concat()
}

/// One run of `count` times `value`, in the bytes that `width` bits take.
pub fn run(count: u64, value: u32, width: usize) -> Vec<u8> {
    let mut run = Vec::new();
    varint(count << 1, &mut run);
    run.extend(&value.to_le_bytes()[..width.div_ceil(8)]);
    run
}

/// Levels as version 1 has them: their length, then one run after another.
pub fn levels(runs: &[(u64, u32)]) -> Vec<u8> {
    let runs: Vec<u8> = runs
        .iter()
        .flat_map(|(count, value)| run(*count, *value, 1))
        .collect();
    [&(runs.len() as u32).to_le_bytes()[..], &runs].concat()
}

/// A stream of `count` times the same length.
pub fn lengths(count: u64, length: i64) -> Vec<u8> {
    let mut stream = Vec::new();
    varint(1 << 20, &mut stream); // one block of a million, in four parts
    varint(4, &mut stream);
    varint(count, &mut stream);
    zigzag(length, &mut stream);
    for _ in 0..count.saturating_sub(1).div_ceil(1 << 20) {
        stream.extend([0, 0, 0, 0, 0]); // no difference, in no bits
    }
    stream
}
