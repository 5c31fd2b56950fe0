package evp.oracle;

import io.delta.kernel.utils.FileStatus;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/** A table in a local directory. Paths come plain or as {@code file:} URIs and are answered as {@code file:} URIs. */
final class LocalFiles extends ReadOnlyFiles {
  @Override
  List<FileStatus> list(String directory) throws IOException {
    List<FileStatus> files = new ArrayList<>();
    try (Stream<Path> entries = Files.list(local(directory))) {
      for (Path entry : (Iterable<Path>) entries.filter(Files::isRegularFile)::iterator) {
        files.add(status(entry));
      }
    } catch (NoSuchFileException e) {
      return files;
    }
    files.sort(Comparator.comparing(FileStatus::getPath));
    return files;
  }

  @Override
  byte[] read(String path) throws IOException {
    try {
      return Files.readAllBytes(local(path));
    } catch (NoSuchFileException e) {
      throw new FileNotFoundException(path);
    }
  }

  @Override
  public FileStatus getFileStatus(String path) throws IOException {
    try {
      return status(local(path));
    } catch (NoSuchFileException e) {
      throw new FileNotFoundException(path);
    }
  }

  @Override
  public String resolvePath(String path) {
    return "file:" + local(path);
  }

  private static FileStatus status(Path file) throws IOException {
    return FileStatus.of("file:" + file, Files.size(file), Files.getLastModifiedTime(file).toMillis());
  }

  /** Kernel's paths are decoded texts with a scheme, not escaped URIs: a percent sign in them is one of the name. */
  private static Path local(String path) {
    String plain = path.startsWith("file:") ? path.substring("file:".length()).replaceFirst("^///", "/") : path;
    return Path.of(plain).toAbsolutePath().normalize();
  }
}
