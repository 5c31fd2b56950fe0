package evp.oracle;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.util.MinimalPrettyPrinter;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.delta.kernel.Scan;
import io.delta.kernel.Snapshot;
import io.delta.kernel.Table;
import io.delta.kernel.data.ColumnarBatch;
import io.delta.kernel.data.FilteredColumnarBatch;
import io.delta.kernel.data.Row;
import io.delta.kernel.defaults.engine.DefaultEngine;
import io.delta.kernel.engine.Engine;
import io.delta.kernel.internal.InternalScanFileUtils;
import io.delta.kernel.internal.data.ScanStateRow;
import io.delta.kernel.internal.util.Utils;
import io.delta.kernel.types.StructField;
import io.delta.kernel.types.StructType;
import io.delta.kernel.utils.CloseableIterator;
import io.delta.kernel.utils.FileStatus;
import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Prints a Delta table: its rows at a version, its schema, or the commits of its log. See {@link #USAGE}. */
public final class DeltaDump {
  private static final String USAGE = """
      delta-dump TABLE [--version N]           the rows of the newest version, or of version N
      delta-dump TABLE --versions all|A-B --out DIR   DIR/<version>.jsonl for each of these versions
      delta-dump TABLE --schema [--version N]  {"version", "partition_columns", "columns": [{"name", "type", "nullable"}]}
      delta-dump TABLE --history               a line per commit: version, operation, txn actions, numbers of files
      TABLE is a directory, or s3://bucket/path with AWS_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
      """;
  private static final Pattern COMMIT = Pattern.compile("(\\d{20})\\.json");

  private final ReadOnlyFiles files;
  private final Engine engine;
  private final String root;
  private final JsonFactory json = new JsonFactory();

  private DeltaDump(String uri) {
    files = uri.matches("s3a?://.*") ? new S3Files(System.getenv()) : new LocalFiles();
    engine = DefaultEngine.create(files);
    root = uri.replaceFirst("/+$", "");
  }

  public static void main(String[] args) {
    try {
      run(List.of(args));
    } catch (IllegalArgumentException e) {
      System.err.println("delta-dump: " + e.getMessage() + "\n" + USAGE);
      System.exit(2);
    } catch (Exception e) {
      System.err.println("delta-dump: " + args[0] + ": " + causes(e));
      System.exit(1);
    }
  }

  private static void run(List<String> args) throws IOException {
    String table = null;
    String versions = null;
    String out = null;
    String mode = "rows";
    Optional<Long> version = Optional.empty();
    var rest = args.iterator();
    while (rest.hasNext()) {
      String arg = rest.next();
      switch (arg) {
        case "--version" -> version = Optional.of(Long.parseLong(value(arg, rest)));
        case "--versions" -> versions = value(arg, rest);
        case "--out" -> out = value(arg, rest);
        case "--schema", "--history" -> mode = arg;
        default -> {
          if (table != null || arg.startsWith("--")) {
            throw new IllegalArgumentException("what is " + arg + "?");
          }
          table = arg;
        }
      }
    }
    if (table == null || (versions == null) != (out == null)) {
      throw new IllegalArgumentException(table == null ? "no table" : "--versions and --out come together");
    }
    DeltaDump dump = new DeltaDump(table);
    if (versions != null) {
      dump.eachVersion(versions, Path.of(out));
      return;
    }
    try (OutputStream stdout = new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16)) {
      switch (mode) {
        case "--history" -> dump.history(stdout);
        case "--schema" -> dump.schema(version, stdout);
        default -> dump.rows(dump.snapshot(version), stdout);
      }
    }
  }

  private static String value(String option, java.util.Iterator<String> rest) {
    if (!rest.hasNext()) {
      throw new IllegalArgumentException(option + " needs a value");
    }
    return rest.next();
  }

  private Snapshot snapshot(Optional<Long> version) {
    Table table = Table.forPath(engine, root);
    return version.isPresent()
        ? table.getSnapshotAsOfVersion(engine, version.get())
        : table.getLatestSnapshot(engine);
  }

  private void eachVersion(String which, Path directory) throws IOException {
    Matcher range = Pattern.compile("(\\d+)-(\\d+)").matcher(which);
    if (!which.equals("all") && !range.matches()) {
      throw new IllegalArgumentException("--versions is all or A-B, not " + which);
    }
    Files.createDirectories(directory);
    for (FileStatus commit : commits()) {
      long version = versionOf(commit);
      boolean wanted = which.equals("all")
          || version >= Long.parseLong(range.group(1)) && version <= Long.parseLong(range.group(2));
      if (wanted) {
        try (OutputStream out = new BufferedOutputStream(Files.newOutputStream(directory.resolve(version + ".jsonl")))) {
          rows(snapshot(Optional.of(version)), out);
        }
      }
    }
  }

  /** The way of Kernel's own reader: files of the snapshot, their physical rows, then the table's logical ones. */
  private void rows(Snapshot snapshot, OutputStream to) throws IOException {
    long count = 0;
    Scan scan = snapshot.getScanBuilder().build();
    Row state = scan.getScanState(engine);
    StructType physical = ScanStateRow.getPhysicalDataReadSchema(engine, state);
    try (JsonGenerator out = lines(to); CloseableIterator<FilteredColumnarBatch> batches = scan.getScanFiles(engine)) {
      while (batches.hasNext()) {
        try (CloseableIterator<Row> scanFiles = batches.next().getRows()) {
          while (scanFiles.hasNext()) {
            count += file(scanFiles.next(), state, physical, out);
          }
        }
      }
    }
    System.err.println("delta-dump: " + root + " version " + snapshot.getVersion() + ": " + count + " rows");
  }

  private long file(Row scanFile, Row state, StructType physical, JsonGenerator out) throws IOException {
    long count = 0;
    FileStatus file = InternalScanFileUtils.getAddFileStatus(scanFile);
    CloseableIterator<ColumnarBatch> data = engine.getParquetHandler()
        .readParquetFiles(Utils.singletonCloseableIterator(file), physical, Optional.empty());
    try (CloseableIterator<FilteredColumnarBatch> logical =
        Scan.transformPhysicalData(engine, state, scanFile, data)) {
      while (logical.hasNext()) {
        count += Rows.write(logical.next(), out);
      }
    }
    return count;
  }

  private void schema(Optional<Long> version, OutputStream to) throws IOException {
    Snapshot snapshot = snapshot(version);
    try (JsonGenerator out = lines(to)) {
      out.writeStartObject();
      out.writeNumberField("version", snapshot.getVersion());
      out.writeArrayFieldStart("partition_columns");
      for (String column : snapshot.getPartitionColumnNames()) {
        out.writeString(column);
      }
      out.writeEndArray();
      out.writeArrayFieldStart("columns");
      for (StructField field : snapshot.getSchema().fields()) {
        out.writeStartObject();
        out.writeStringField("name", field.getName());
        out.writeStringField("type", field.getDataType().toString());
        out.writeBooleanField("nullable", field.isNullable());
        out.writeEndObject();
      }
      out.writeEndArray();
      out.writeEndObject();
      out.writeRaw('\n');
    }
  }

  /** Commits are read as the plain JSON they are: Kernel's public interface does not show txn actions. */
  private void history(OutputStream to) throws IOException {
    ObjectMapper mapper = new ObjectMapper();
    try (JsonGenerator out = lines(to)) {
      for (FileStatus commit : commits()) {
        JsonNode info = mapper.createObjectNode();
        List<JsonNode> txns = new ArrayList<>();
        int adds = 0;
        int removes = 0;
        int cdc = 0;
        boolean metadata = false;
        for (String line : new String(files.read(commit.getPath()), StandardCharsets.UTF_8).split("\n")) {
          if (line.isBlank()) {
            continue;
          }
          JsonNode action = mapper.readTree(line);
          adds += action.has("add") ? 1 : 0;
          removes += action.has("remove") ? 1 : 0;
          cdc += action.has("cdc") ? 1 : 0;
          metadata |= action.has("metaData");
          info = action.has("commitInfo") ? action.get("commitInfo") : info;
          if (action.has("txn")) {
            txns.add(action.get("txn"));
          }
        }
        out.writeStartObject();
        out.writeNumberField("version", versionOf(commit));
        out.writeStringField("operation", info.path("operation").asText(null));
        out.writeArrayFieldStart("txn");
        for (JsonNode txn : txns) {
          out.writeStartObject();
          out.writeStringField("appId", txn.path("appId").asText());
          out.writeNumberField("version", txn.path("version").asLong());
          out.writeEndObject();
        }
        out.writeEndArray();
        out.writeNumberField("adds", adds);
        out.writeNumberField("removes", removes);
        out.writeNumberField("cdc", cdc);
        out.writeBooleanField("metadata", metadata);
        out.writeEndObject();
        out.writeRaw('\n');
      }
    }
  }

  private List<FileStatus> commits() throws IOException {
    List<FileStatus> log = files.list(files.resolvePath(root) + "/_delta_log/");
    List<FileStatus> commits = log.stream().filter(f -> COMMIT.matcher(name(f)).matches()).toList();
    if (commits.isEmpty()) {
      throw new IOException("no commits, so no Delta table");
    }
    return commits;
  }

  private static String name(FileStatus file) {
    return file.getPath().substring(file.getPath().lastIndexOf('/') + 1);
  }

  private static long versionOf(FileStatus commit) {
    return Long.parseLong(name(commit).substring(0, 20));
  }

  private JsonGenerator lines(OutputStream to) throws IOException {
    return json.createGenerator(to).setPrettyPrinter(new MinimalPrettyPrinter(""));
  }

  private static String causes(Throwable error) {
    StringBuilder out = new StringBuilder();
    for (Throwable e = error; e != null; e = e.getCause()) {
      out.append(out.isEmpty() ? "" : " < ").append(e.getClass().getSimpleName()).append(": ").append(e.getMessage());
    }
    return out.toString();
  }
}
