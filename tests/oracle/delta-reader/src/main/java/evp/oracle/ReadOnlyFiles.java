package evp.oracle;

import io.delta.kernel.defaults.engine.fileio.FileIO;
import io.delta.kernel.defaults.engine.fileio.InputFile;
import io.delta.kernel.defaults.engine.fileio.OutputFile;
import io.delta.kernel.defaults.engine.fileio.SeekableInputStream;
import io.delta.kernel.internal.util.Utils;
import io.delta.kernel.utils.CloseableIterator;
import io.delta.kernel.utils.FileStatus;
import java.io.EOFException;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.util.List;
import java.util.Optional;

/**
 * What Delta Kernel asks of a store, reduced to three verbs; everything that writes is refused. A file is read whole:
 * the tables of tests are small.
 */
abstract class ReadOnlyFiles implements FileIO {
  /** The files directly in {@code directory}, sorted by path; none if it is not there. */
  abstract List<FileStatus> list(String directory) throws IOException;

  /** Throws {@link FileNotFoundException} when it is not there. */
  abstract byte[] read(String path) throws IOException;

  /** The files of {@code path}'s directory from {@code path} on, as Kernel lists a log. */
  @Override
  public CloseableIterator<FileStatus> listFrom(String path) throws IOException {
    String directory = path.substring(0, path.lastIndexOf('/') + 1);
    List<FileStatus> files = list(directory);
    if (files.isEmpty()) {
      throw new FileNotFoundException(directory);
    }
    return Utils.toCloseableIterator(files.stream().filter(f -> f.getPath().compareTo(path) >= 0).iterator());
  }

  @Override
  public InputFile newInputFile(String path, long size) {
    return new InputFile() {
      @Override
      public long length() throws IOException {
        return size >= 0 ? size : getFileStatus(path).getSize();
      }

      @Override
      public String path() {
        return path;
      }

      @Override
      public SeekableInputStream newStream() throws IOException {
        return new Bytes(read(path));
      }
    };
  }

  @Override
  public Optional<String> getConf(String name) {
    return Optional.empty();
  }

  @Override
  public boolean mkdirs(String path) {
    throw readOnly();
  }

  @Override
  public OutputFile newOutputFile(String path) {
    throw readOnly();
  }

  @Override
  public boolean delete(String path) {
    throw readOnly();
  }

  private static UnsupportedOperationException readOnly() {
    return new UnsupportedOperationException("a foreign reader writes nothing");
  }

  /** A file in memory. */
  private static final class Bytes extends SeekableInputStream {
    private final byte[] bytes;
    private int at;

    Bytes(byte[] bytes) {
      this.bytes = bytes;
    }

    @Override
    public long getPos() {
      return at;
    }

    @Override
    public void seek(long position) throws IOException {
      if (position < 0 || position > bytes.length) {
        throw new EOFException("seek to " + position + " of " + bytes.length);
      }
      at = (int) position;
    }

    @Override
    public void readFully(byte[] into, int offset, int length) throws IOException {
      if (length > bytes.length - at) {
        throw new EOFException(length + " bytes wanted at " + at + " of " + bytes.length);
      }
      System.arraycopy(bytes, at, into, offset, length);
      at += length;
    }

    @Override
    public int read() {
      return at == bytes.length ? -1 : bytes[at++] & 0xff;
    }

    @Override
    public int read(byte[] into, int offset, int length) {
      if (length == 0) {
        return 0;
      }
      int n = Math.min(length, bytes.length - at);
      if (n == 0) {
        return -1;
      }
      System.arraycopy(bytes, at, into, offset, n);
      at += n;
      return n;
    }
  }
}
