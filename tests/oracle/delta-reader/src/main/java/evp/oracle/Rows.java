package evp.oracle;

import com.fasterxml.jackson.core.JsonGenerator;
import io.delta.kernel.data.ArrayValue;
import io.delta.kernel.data.ColumnVector;
import io.delta.kernel.data.ColumnarBatch;
import io.delta.kernel.data.FilteredColumnarBatch;
import io.delta.kernel.data.MapValue;
import io.delta.kernel.types.ArrayType;
import io.delta.kernel.types.BinaryType;
import io.delta.kernel.types.BooleanType;
import io.delta.kernel.types.ByteType;
import io.delta.kernel.types.DataType;
import io.delta.kernel.types.DateType;
import io.delta.kernel.types.DecimalType;
import io.delta.kernel.types.DoubleType;
import io.delta.kernel.types.FloatType;
import io.delta.kernel.types.IntegerType;
import io.delta.kernel.types.LongType;
import io.delta.kernel.types.MapType;
import io.delta.kernel.types.ShortType;
import io.delta.kernel.types.StringType;
import io.delta.kernel.types.StructField;
import io.delta.kernel.types.StructType;
import io.delta.kernel.types.TimestampNTZType;
import io.delta.kernel.types.TimestampType;
import java.io.IOException;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.temporal.ChronoUnit;

/**
 * Rows as JSON lines: whole numbers as such, doubles with a point or an exponent (NaN and infinities as text),
 * decimals and binary (base64) as text, dates ISO, timestamps ISO in microseconds, with a Z unless they are
 * {@code timestamp_ntz}; a map as a list of [key, value].
 */
final class Rows {
  private static final DateTimeFormatter MICROS = DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSSSSS");

  private Rows() {}

  /** Writes the batch's selected rows; the answer is their number. */
  static long write(FilteredColumnarBatch batch, JsonGenerator out) throws IOException {
    ColumnarBatch data = batch.getData();
    ColumnVector selected = batch.getSelectionVector().orElse(null);
    long written = 0;
    for (int row = 0; row < data.getSize(); row++) {
      if (selected != null && (selected.isNullAt(row) || !selected.getBoolean(row))) {
        continue;
      }
      out.writeStartObject();
      for (int column = 0; column < data.getSchema().length(); column++) {
        out.writeFieldName(data.getSchema().at(column).getName());
        value(data.getColumnVector(column), row, out);
      }
      out.writeEndObject();
      out.writeRaw('\n');
      written++;
    }
    return written;
  }

  private static void value(ColumnVector values, int row, JsonGenerator out) throws IOException {
    DataType type = values.getDataType();
    if (values.isNullAt(row)) {
      out.writeNull();
    } else if (type instanceof StringType) {
      out.writeString(values.getString(row));
    } else if (type instanceof LongType) {
      out.writeNumber(values.getLong(row));
    } else if (type instanceof IntegerType) {
      out.writeNumber(values.getInt(row));
    } else if (type instanceof ShortType) {
      out.writeNumber(values.getShort(row));
    } else if (type instanceof ByteType) {
      out.writeNumber(values.getByte(row));
    } else if (type instanceof DoubleType) {
      out.writeNumber(values.getDouble(row));
    } else if (type instanceof FloatType) {
      out.writeNumber(values.getFloat(row));
    } else if (type instanceof BooleanType) {
      out.writeBoolean(values.getBoolean(row));
    } else if (type instanceof DecimalType) {
      out.writeString(values.getDecimal(row).toPlainString());
    } else if (type instanceof DateType) {
      out.writeString(LocalDate.ofEpochDay(values.getInt(row)).toString());
    } else if (type instanceof TimestampType) {
      out.writeString(iso(values.getLong(row)) + "Z");
    } else if (type instanceof TimestampNTZType) {
      out.writeString(iso(values.getLong(row)));
    } else if (type instanceof BinaryType) {
      out.writeBinary(values.getBinary(row));
    } else {
      nested(type, values, row, out);
    }
  }

  private static void nested(DataType type, ColumnVector values, int row, JsonGenerator out) throws IOException {
    if (type instanceof StructType struct) {
      out.writeStartObject();
      for (StructField field : struct.fields()) {
        out.writeFieldName(field.getName());
        value(values.getChild(struct.indexOf(field.getName())), row, out);
      }
      out.writeEndObject();
    } else if (type instanceof ArrayType) {
      ArrayValue array = values.getArray(row);
      out.writeStartArray();
      for (int i = 0; i < array.getSize(); i++) {
        value(array.getElements(), i, out);
      }
      out.writeEndArray();
    } else if (type instanceof MapType) {
      MapValue map = values.getMap(row);
      out.writeStartArray();
      for (int i = 0; i < map.getSize(); i++) {
        out.writeStartArray();
        value(map.getKeys(), i, out);
        value(map.getValues(), i, out);
        out.writeEndArray();
      }
      out.writeEndArray();
    } else {
      throw new IOException("no JSON for a column of type " + type);
    }
  }

  private static String iso(long micros) {
    return MICROS.format(Instant.EPOCH.plus(micros, ChronoUnit.MICROS).atOffset(ZoneOffset.UTC));
  }
}
