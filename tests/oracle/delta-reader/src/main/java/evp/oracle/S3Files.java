package evp.oracle;

import io.delta.kernel.utils.FileStatus;
import java.io.ByteArrayInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.net.URI;
import java.net.URLDecoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/**
 * A table in an S3 bucket ({@code s3://} or {@code s3a://}): GET, HEAD and ListObjectsV2, path style, signed with
 * Signature Version 4. So little is needed of S3 that an SDK would only cost start time.
 */
final class S3Files extends ReadOnlyFiles {
  private static final int TRIES = 5;
  private static final Duration PAUSE = Duration.ofMillis(200); // grows by itself with every try: 2 s in all
  private static final Duration TIMEOUT = Duration.ofSeconds(30);
  private static final DateTimeFormatter STAMP = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'");
  private static final String EMPTY_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

  private final HttpClient http =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(TIMEOUT).build();
  private final URI endpoint;
  private final String region;
  private final String keyId;
  private final String secret;

  S3Files(Map<String, String> env) {
    endpoint = URI.create(required(env, "AWS_ENDPOINT"));
    keyId = required(env, "AWS_ACCESS_KEY_ID");
    secret = required(env, "AWS_SECRET_ACCESS_KEY");
    region = env.getOrDefault("AWS_REGION", "us-east-1");
  }

  private static String required(Map<String, String> env, String name) {
    String value = env.get(name);
    if (value == null || value.isEmpty()) {
      throw new IllegalArgumentException("an s3:// table needs " + name + " in the environment");
    }
    return value;
  }

  @Override
  List<FileStatus> list(String directory) throws IOException {
    String[] place = bucketAndKey(directory);
    List<FileStatus> files = new ArrayList<>();
    String next = null;
    do {
      Map<String, String> query = new TreeMap<>(Map.of("list-type", "2", "delimiter", "/", "encoding-type", "url"));
      query.put("prefix", place[1]);
      if (next != null) {
        query.put("continuation-token", next);
      }
      Element page = parse(send("GET", place[0], "", query).body());
      NodeList contents = page.getElementsByTagName("Contents");
      for (int i = 0; i < contents.getLength(); i++) {
        Element item = (Element) contents.item(i);
        String key = URLDecoder.decode(text(item, "Key"), StandardCharsets.UTF_8);
        String uri = directory.substring(0, directory.length() - place[1].length()) + key;
        long modified = Instant.parse(text(item, "LastModified")).toEpochMilli();
        files.add(FileStatus.of(uri, Long.parseLong(text(item, "Size")), modified));
      }
      next = "true".equals(text(page, "IsTruncated")) ? text(page, "NextContinuationToken") : null;
    } while (next != null);
    return files;
  }

  @Override
  byte[] read(String path) throws IOException {
    String[] place = bucketAndKey(path);
    return send("GET", place[0], place[1], Map.of()).body();
  }

  @Override
  public FileStatus getFileStatus(String path) throws IOException {
    String[] place = bucketAndKey(path);
    var headers = send("HEAD", place[0], place[1], Map.of()).headers();
    long modified = ZonedDateTime
        .parse(headers.firstValue("last-modified").orElseThrow(), DateTimeFormatter.RFC_1123_DATE_TIME)
        .toInstant().toEpochMilli();
    return FileStatus.of(path, headers.firstValueAsLong("content-length").orElseThrow(), modified);
  }

  @Override
  public String resolvePath(String path) {
    return path;
  }

  /** Kernel's paths are decoded texts, not escaped URIs: what follows the bucket is the key, letter for letter. */
  private static String[] bucketAndKey(String path) {
    String rest = path.replaceFirst("^s3a?://", "");
    int slash = rest.indexOf('/');
    return new String[] {rest.substring(0, slash), rest.substring(slash + 1)};
  }

  private HttpResponse<byte[]> send(String method, String bucket, String key, Map<String, String> query)
      throws IOException {
    IOException last = null;
    for (int i = 0; i < TRIES; i++) {
      try {
        Thread.sleep(i * PAUSE.toMillis());
        HttpResponse<byte[]> response =
            http.send(signed(method, "/" + bucket + (key.isEmpty() ? "" : "/" + key), query),
                HttpResponse.BodyHandlers.ofByteArray());
        if (response.statusCode() == 200) {
          return response;
        }
        if (response.statusCode() == 404 && !key.isEmpty()) {
          throw new FileNotFoundException(bucket + "/" + key);
        }
        last = new IOException(method + " " + bucket + "/" + key + ": HTTP " + response.statusCode() + " "
            + new String(response.body(), StandardCharsets.UTF_8));
        if (response.statusCode() < 500 && response.statusCode() != 429) {
          throw last;
        }
      } catch (FileNotFoundException e) {
        throw e;
      } catch (IOException e) {
        if (e == last) {
          throw e;
        }
        last = new IOException(method + " " + endpoint + " " + bucket + "/" + key + ": " + e, e);
      } catch (InterruptedException e) {
        throw new IOException(e);
      }
    }
    throw last;
  }

  private HttpRequest signed(String method, String path, Map<String, String> query) {
    String stamp = ZonedDateTime.now(ZoneOffset.UTC).format(STAMP);
    String day = stamp.substring(0, 8);
    String escapedPath = escape(path, "/");
    StringBuilder escapedQuery = new StringBuilder();
    new TreeMap<>(query).forEach((name, value) -> escapedQuery
        .append(escapedQuery.isEmpty() ? "" : "&").append(escape(name, "")).append('=').append(escape(value, "")));
    String canonical = String.join("\n", method, escapedPath, escapedQuery,
        "host:" + endpoint.getRawAuthority(), "x-amz-content-sha256:" + EMPTY_HASH, "x-amz-date:" + stamp, "",
        "host;x-amz-content-sha256;x-amz-date", EMPTY_HASH);
    String scope = day + "/" + region + "/s3/aws4_request";
    String toSign = String.join("\n", "AWS4-HMAC-SHA256", stamp, scope, sha256(canonical));
    byte[] signingKey = ("AWS4" + secret).getBytes(StandardCharsets.UTF_8);
    for (String part : new String[] {day, region, "s3", "aws4_request"}) {
      signingKey = hmac(signingKey, part);
    }
    String authorization = "AWS4-HMAC-SHA256 Credential=" + keyId + "/" + scope
        + ",SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature="
        + HexFormat.of().formatHex(hmac(signingKey, toSign));
    String root = endpoint.getScheme() + "://" + endpoint.getRawAuthority();
    return HttpRequest.newBuilder(URI.create(root + escapedPath + (query.isEmpty() ? "" : "?" + escapedQuery)))
        .timeout(TIMEOUT).method(method, HttpRequest.BodyPublishers.noBody())
        .header("x-amz-content-sha256", EMPTY_HASH).header("x-amz-date", stamp)
        .header("Authorization", authorization).build();
  }

  /** As Signature Version 4 wants it: everything but unreserved characters in upper-case percent escapes. */
  private static String escape(String text, String kept) {
    StringBuilder out = new StringBuilder();
    for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
      char c = (char) (b & 0xff);
      boolean plain = c < 128 && (Character.isLetterOrDigit(c) || "-_.~".indexOf(c) >= 0 || kept.indexOf(c) >= 0);
      out.append(plain ? String.valueOf(c) : String.format("%%%02X", (int) c));
    }
    return out.toString();
  }

  private static String sha256(String text) {
    try {
      byte[] digest = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
      return HexFormat.of().formatHex(digest);
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException(e);
    }
  }

  private static byte[] hmac(byte[] key, String text) {
    try {
      Mac mac = Mac.getInstance("HmacSHA256");
      mac.init(new SecretKeySpec(key, "HmacSHA256"));
      return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException(e);
    }
  }

  private static Element parse(byte[] xml) throws IOException {
    try {
      return DocumentBuilderFactory.newDefaultInstance().newDocumentBuilder()
          .parse(new ByteArrayInputStream(xml)).getDocumentElement();
    } catch (javax.xml.parsers.ParserConfigurationException
        | org.xml.sax.SAXException e) {
      throw new IOException("a listing that is no XML", e);
    }
  }

  private static String text(Element parent, String name) {
    NodeList found = parent.getElementsByTagName(name);
    return found.getLength() == 0 ? null : found.item(0).getTextContent();
  }
}
