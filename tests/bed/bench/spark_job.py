"""The peer: Kafka -> bronze Delta (append) and gold Delta (5-minute windows, MERGE in foreachBatch), as two independent queries.

env: JARS, KAFKA_BOOTSTRAP, TOPIC, OUT (s3a://bucket/prefix), S3_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY;
TRIGGER=availableNow (to the end of the topic, then stop) or '5 seconds' (for RUN_SECONDS); T0, the start by the caller's clock.
Prints `MARKS {json}`: seconds after T0 at which the session was ready and the queries were done.
Its settings are tuned in its favour: two cores, as many shuffle partitions, a heap of 2 GB, no UI.
"""

import glob
import json
import os
import sys
import time

from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

E = os.environ
T0 = float(E["T0"])
OUT, TRIGGER = E["OUT"].rstrip("/"), E.get("TRIGGER", "availableNow")
FIELDS = """order_id STRING, customer_id STRING, product_id STRING, product_name STRING, product_category STRING, quantity INT,
    unit_price DOUBLE, total_price DOUBLE, event_type STRING, region STRING, event_timestamp TIMESTAMP"""
GOLD = """window_start TIMESTAMP, window_end TIMESTAMP, region STRING, product_category STRING, order_count BIGINT,
    total_revenue DOUBLE, avg_order_value DOUBLE, total_units_sold BIGINT, unique_customers BIGINT"""


def session():
    s3 = "spark.hadoop.fs.s3a."
    settings = {
        "spark.jars": ",".join(sorted(glob.glob(E["JARS"] + "/*.jar"))),
        "spark.driver.memory": "2g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.streaming.metricsEnabled": "false",
        s3 + "endpoint": E["S3_ENDPOINT"],
        s3 + "endpoint.region": "us-east-1",
        s3 + "path.style.access": "true",
        s3 + "connection.ssl.enabled": "false",
        s3 + "access.key": E["AWS_ACCESS_KEY_ID"],
        s3 + "secret.key": E["AWS_SECRET_ACCESS_KEY"],
        s3 + "create.performance": "true",
    }
    builder = SparkSession.builder.appName("peer").master("local[2]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def source(spark):
    raw = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", E["KAFKA_BOOTSTRAP"])
        .option("subscribe", E["TOPIC"])
        .option("startingOffsets", "earliest")
        .load()
    )
    return (
        raw.select(
            F.from_json(F.col("value").cast("string"), FIELDS).alias("d"),
            F.col("timestamp").alias("kafka_ingest_ts"),
            F.col("partition").alias("kafka_partition"),
            F.col("offset").alias("kafka_offset"),
        )
        .select("d.*", "kafka_ingest_ts", "kafka_partition", "kafka_offset")
        .withColumn("event_date", F.to_date("event_timestamp"))
    )


def started(writer, name):
    writer = writer.queryName(name).option("checkpointLocation", f"{OUT}/checkpoint/{name}")
    return (writer.trigger(availableNow=True) if TRIGGER == "availableNow" else writer.trigger(processingTime=TRIGGER)).start()


def bronze(spark):
    writer = source(spark).writeStream.format("delta").outputMode("append").partitionBy("event_date").option("path", OUT + "/bronze")
    return started(writer, "bronze")


def gold(spark):
    path = OUT + "/gold"
    spark.createDataFrame([], GOLD).write.format("delta").save(path)
    windows = (
        source(spark)
        .filter("event_type = 'ORDER_PLACED' AND event_timestamp IS NOT NULL")
        .withWatermark("event_timestamp", "10 minutes")
        .groupBy(F.window("event_timestamp", "5 minutes").alias("w"), "region", "product_category")
        .agg(
            F.count("*").alias("order_count"),
            F.sum("total_price").alias("total_revenue"),
            F.avg("total_price").alias("avg_order_value"),
            F.sum("quantity").alias("total_units_sold"),
            F.approx_count_distinct("customer_id").alias("unique_customers"),
        )
        .select(F.col("w.start").alias("window_start"), F.col("w.end").alias("window_end"), *[c.split()[0] for c in GOLD.split(",")[2:]])
    )

    def merge(batch, _id):
        same = "t.window_start = s.window_start AND t.region = s.region AND t.product_category = s.product_category"
        merged = DeltaTable.forPath(spark, path).alias("t").merge(batch.alias("s"), same)
        merged.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()

    return started(windows.writeStream.outputMode("update").foreachBatch(merge), "gold")


def main():
    spark = session()
    ready = time.time() - T0
    queries = [bronze(spark), gold(spark)]
    if TRIGGER == "availableNow":
        for query in queries:
            query.awaitTermination()
    else:
        end = time.time() + float(E["RUN_SECONDS"])
        while time.time() < end and all(query.isActive for query in queries):
            time.sleep(0.2)
    print("MARKS " + json.dumps({"begin": ready, "end": time.time() - T0}), flush=True)
    failed = [query.exception() for query in queries if query.exception()]
    for query in queries:
        query.stop()
    spark.stop()
    sys.exit(str(failed[0]) if failed else 0)


main()
