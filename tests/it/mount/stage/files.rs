//! The stage as the kernel asks for it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};

use super::objects::{Found, Object, Objects};
use super::server::Shared;

/// Nothing may be remembered: others write to the stage as well.
const FORGET: Duration = Duration::ZERO;

pub struct StageFiles {
    shared: Arc<Shared>,
    open: Mutex<Open>,
}

/// Inode numbers and handles that were given out.
struct Open {
    paths: HashMap<u64, String>,
    folders: HashMap<String, u64>,
    handles: HashMap<u64, Handle>,
    last: u64,
}

enum Handle {
    Reader(Arc<Object>),
    Writer(Writer),
    Folder(Vec<(String, bool)>),
}

/// A file on its way to become an object.
struct Writer {
    inode: INodeNo,
    path: String,
    bytes: Vec<u8>,
    /// The thread that opened it, and its process.
    opener: u32,
    process: Option<u32>,
    /// Whether the last who closed it did so on its way out.
    was_killed: bool,
    is_done: bool,
}

impl Open {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The number of what lies at `path`: a folder's own, a file's new one.
    fn number(&mut self, path: &str, is_folder: bool) -> u64 {
        if let Some(&known) = self.folders.get(path).filter(|_| is_folder) {
            return known;
        }
        let number = self.next();
        self.paths.insert(number, path.to_string());
        if is_folder {
            self.folders.insert(path.to_string(), number);
        }
        number
    }

    fn path(&self, inode: INodeNo) -> Option<String> {
        self.paths.get(&inode.0).cloned()
    }

    /// The path of a name in a folder.
    fn below(&self, parent: INodeNo, name: &OsStr) -> Option<String> {
        let (parent, name) = (self.path(parent)?, name.to_str()?);
        Some(match parent.as_str() {
            "" => name.to_string(),
            parent => format!("{parent}/{name}"),
        })
    }

    fn add(&mut self, handle: Handle) -> FileHandle {
        let number = self.next();
        self.handles.insert(number, handle);
        FileHandle(number)
    }

    /// Bytes of the file that is being written under this inode.
    fn size_in_hand(&self, inode: INodeNo) -> Option<usize> {
        self.handles.values().find_map(|handle| match handle {
            Handle::Writer(writer) if writer.inode == inode && !writer.is_done => Some(writer.bytes.len()),
            _ => None,
        })
    }

    fn writer(&mut self, handle: FileHandle) -> Option<&mut Writer> {
        match self.handles.get_mut(&handle.0) {
            Some(Handle::Writer(writer)) => Some(writer),
            _ => None,
        }
    }
}

impl StageFiles {
    pub fn new(shared: Arc<Shared>) -> StageFiles {
        let root = INodeNo::ROOT.0;
        StageFiles {
            shared,
            open: Mutex::new(Open {
                paths: HashMap::from([(root, String::new())]),
                folders: HashMap::from([(String::new(), root)]),
                handles: HashMap::new(),
                last: root,
            }),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap()
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.shared.objects.lock().unwrap()
    }

    /// Counts what the stage won't do.
    fn refuse(&self, what: &'static str) -> Errno {
        *self.shared.refused.lock().unwrap().entry(what).or_default() += 1;
        Errno::EPERM
    }

    fn look(&self, path: &str) -> Option<FileAttr> {
        let found = self.objects().find(path);
        let mut open = self.open();
        Some(match found {
            Found::Object(object) => file(open.number(path, false), object.bytes.len(), object.modified),
            Found::Folder => folder(open.number(path, true)),
            Found::Nothing => return None,
        })
    }

    /// Begins an object.
    fn begin(&self, inode: INodeNo, path: String, opener: u32) -> FileHandle {
        let process = process_of(opener);
        self.open().add(Handle::Writer(Writer {
            inode,
            path,
            opener,
            process,
            bytes: Vec::new(),
            was_killed: false,
            is_done: false,
        }))
    }

    /// Ends an object, by a close of thread `closer`, or when nobody has the file open any more.
    ///
    /// As mounts do it that upload in the background, a close is passed over that may be one of a copy of the
    /// descriptor: of a file that is still empty, and by another process than the one that opened it.
    fn end(&self, handle: FileHandle, closer: Option<u32>) -> Result<(), Errno> {
        let Some((opener, process)) = self
            .open()
            .writer(handle)
            .map(|writer| (writer.opener, writer.process))
        else {
            return Ok(());
        };
        let is_killed = closer.map(is_ending);
        let is_copy = match (closer, is_killed) {
            (Some(closer), Some(true)) => process_of(closer) != process,
            (Some(closer), _) => closer != opener,
            _ => false,
        };
        if is_copy {
            return Ok(());
        }
        let (path, bytes, was_killed) = match self.open().writer(handle) {
            Some(writer) if !writer.is_done => {
                writer.was_killed = is_killed.unwrap_or(writer.was_killed);
                if closer.is_some() && writer.bytes.is_empty() {
                    return Ok(());
                }
                writer.is_done = true;
                let bytes = std::mem::take(&mut writer.bytes);
                (writer.path.clone(), bytes, writer.was_killed)
            }
            _ => return Ok(()),
        };
        self.shared.in_hand.lock().unwrap().remove(&path);
        let rules = self.shared.rules.lock().unwrap().clone();
        if was_killed {
            if !rules.publishes_torn {
                return Ok(());
            }
            self.shared.torn.lock().unwrap().push(path.clone());
        } else if rules.close_fails.is_some_and(|text| path.contains(&text)) {
            return Err(Errno::EIO);
        }
        self.objects().publish(&path, bytes, rules.shows_after);
        Ok(())
    }
}

/// Whether a thread is on its way out, so that a close is none that it asked for: it has no memory any more.
///
/// `/proc/<pid>/stat` would say so too, but must not be read here: it waits for a process that is about to run another
/// program, and that one closes its files before, so it waits for this answer.
fn is_ending(thread: u32) -> bool {
    let statm = std::fs::read_to_string(format!("/proc/{thread}/statm"));
    statm.map_or(true, |statm| statm.starts_with("0 "))
}

/// The process that a thread belongs to.
fn process_of(thread: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    process.trim().parse().ok()
}

fn file(inode: u64, size: usize, modified: SystemTime) -> FileAttr {
    FileAttr {
        ino: INodeNo(inode),
        size: size as u64,
        blocks: size.div_ceil(512) as u64,
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind: FileType::RegularFile,
        perm: 0o644,
        nlink: 1,
        // SAFETY: asks and changes nothing.
        uid: unsafe { libc::getuid() },
        // SAFETY: as above.
        gid: unsafe { libc::getgid() },
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn folder(inode: u64) -> FileAttr {
    FileAttr {
        kind: FileType::Directory,
        perm: 0o755,
        nlink: 2,
        ..file(inode, 0, SystemTime::UNIX_EPOCH)
    }
}

impl Filesystem for StageFiles {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Small writes, so that a kill meets a file half written.
        const WRITE_BYTES: u32 = 64 << 10;
        let _ = config.set_max_write(WRITE_BYTES);
        let truncates = config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC);
        truncates.map_err(|_| std::io::Error::other("the kernel can't hand over O_TRUNC"))
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let path = self.open().below(parent, name);
        match path.and_then(|path| self.look(&path)) {
            Some(found) => reply.entry(&FORGET, &found, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        // Who writes a file may ask for its size before anybody else sees it.
        let writing = self.open().size_in_hand(inode);
        let path = self.open().path(inode);
        let found = match writing {
            Some(size) => Some(file(inode.0, size, SystemTime::now())),
            None => path.and_then(|path| self.look(&path)),
        };
        match found {
            Some(found) => reply.attr(&FORGET, &FileAttr { ino: inode, ..found }),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let Some(path) = self.open().path(inode) else {
            return reply.error(Errno::ESTALE);
        };
        let found = self.objects().find(&path);
        let handle = match (flags.acc_mode(), found) {
            (OpenAccMode::O_RDONLY, Found::Object(object)) => self.open().add(Handle::Reader(object)),
            (OpenAccMode::O_RDONLY, _) => return reply.error(Errno::ENOENT),
            _ if flags.0 & libc::O_APPEND != 0 => return reply.error(self.refuse("append")),
            _ if flags.0 & libc::O_TRUNC == 0 => return reply.error(self.refuse("write into a file")),
            _ => self.begin(inode, path, request.pid()),
        };
        reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let parent_path = self.open().path(parent);
        let (Some(parent), Some(path)) = (parent_path, self.open().below(parent, name)) else {
            return reply.error(Errno::ENOENT);
        };
        if flags & libc::O_APPEND != 0 {
            return reply.error(self.refuse("append"));
        }
        if !matches!(self.objects().find(&parent), Found::Folder) {
            return reply.error(Errno::ENOENT);
        }
        // Another may be writing the same file: nobody knows before it is closed.
        let exists = matches!(self.objects().find(&path), Found::Object(_));
        if exists && flags & libc::O_EXCL != 0 {
            return reply.error(Errno::EEXIST);
        }
        let inode = INodeNo(self.open().number(&path, false));
        let handle = self.begin(inode, path, request.pid());
        let new = file(inode.0, 0, SystemTime::now());
        reply.created(&FORGET, &new, Generation(0), handle, FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.open().handles.get(&handle.0) {
            Some(Handle::Reader(object)) => {
                let from = object.bytes.len().min(offset as usize);
                let to = object.bytes.len().min(from + size as usize);
                reply.data(&object.bytes[from..to]);
            }
            _ => reply.error(Errno::EBADF),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let takes = self.shared.rules.lock().unwrap().write_takes;
        std::thread::sleep(takes);
        match self.open().writer(handle) {
            Some(writer) if !writer.is_done && offset == writer.bytes.len() as u64 => {
                writer.bytes.extend_from_slice(data);
                let (path, bytes) = (writer.path.clone(), writer.bytes.len());
                self.shared.in_hand.lock().unwrap().insert(path, bytes);
                reply.written(data.len() as u32);
            }
            Some(_) => reply.error(self.refuse("random write")),
            None => reply.error(Errno::EBADF),
        }
    }

    fn flush(&self, request: &Request, _: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        match self.end(handle, Some(request.pid())) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        // Nobody hears of an error here.
        let _ = self.end(handle, None);
        self.open().handles.remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let refuses = self.shared.rules.lock().unwrap().refuses_sync;
        if refuses {
            reply.error(Errno::EINVAL)
        } else {
            reply.ok()
        }
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let Some(path) = self.open().path(inode) else {
            return reply.error(Errno::ESTALE);
        };
        let children = self.objects().children(&path).into_iter().collect();
        reply.opened(self.open().add(Handle::Folder(children)), FopenFlags::empty());
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if let Some(Handle::Folder(children)) = self.open().handles.get(&handle.0) {
            for (index, (name, is_folder)) in children.iter().enumerate().skip(offset as usize) {
                let kind = if *is_folder {
                    FileType::Directory
                } else {
                    FileType::RegularFile
                };
                // A number that no file has: who wants to know looks the file up.
                if reply.add(INodeNo(u64::MAX), index as u64 + 1, kind, name) {
                    break;
                }
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.open().handles.remove(&handle.0);
        reply.ok();
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let Some(path) = self.open().below(parent, name) else {
            return reply.error(Errno::ENOENT);
        };
        let mut objects = self.objects();
        match objects.find(&path) {
            Found::Nothing => objects.make_folder(&path),
            _ => return reply.error(Errno::EEXIST),
        }
        drop(objects);
        let inode = self.open().number(&path, true);
        reply.entry(&FORGET, &folder(inode), Generation(0));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let path = self.open().below(parent, name).unwrap_or_default();
        let mut objects = self.objects();
        match objects.find(&path) {
            Found::Object(_) => {
                objects.remove(&path);
                reply.ok();
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let path = self.open().below(parent, name).unwrap_or_default();
        match self.objects().remove_folder(&path) {
            true => reply.ok(),
            false => reply.error(Errno::ENOTEMPTY),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let what = if size.is_some() {
            "truncate"
        } else {
            "set attributes"
        };
        reply.error(self.refuse(what));
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(self.refuse("rename"));
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(self.refuse("hard link"));
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(self.refuse("symbolic link"));
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(self.refuse("special file"));
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(self.refuse("set attributes"));
    }

    fn setlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(self.refuse("lock"));
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(self.refuse("allocate"));
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(self.refuse("copy a range"));
    }
}
