import { EventLog } from '@app/event-store';
import {
  KafkaAway,
  KafkaClient,
  LogReader,
  measure,
  measureNoMore,
  ParkedMessages,
  relayCheckpoint,
  stalledMs,
  TopicCheck,
  topicFault,
  TopicPublisher,
  TopicUnfit,
  type LogProgress,
  type LogSession,
  type TopicSettings,
} from '@app/messaging';
import { Counter, HealthProbes, Histogram, queriedGauge } from '@app/runtime';
import {
  Inject,
  Injectable,
  Logger,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { Pool } from 'pg';
import { PublishQueue } from './publish-queue';
import { sendTraced } from './publish-spans';
import { assertNotTakenBack, LogTakenBack } from './log-taken-back';
import { parkingGroup, RefusedEvents } from './refused-events';

const published = new Counter({ name: 'sendmux_relay_published_total', help: 'Events that Kafka has acknowledged' });
const publishSeconds = new Histogram({
  name: 'sendmux_relay_publish_seconds',
  help: 'From a send to its acknowledgement by all replicas in sync',
  buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5],
});

const delaySeconds = new Histogram({
  name: 'sendmux_relay_delay_seconds',
  help: 'From the time of an event to its acknowledgement by Kafka, but for what fills an empty topic',
  buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600],
});

/** Milliseconds between two searches for parked events to redrive. */
const redriveMs = 1_000;
/** Milliseconds between two looks at the settings of the topic. */
const topicCheckMs = 60_000;

/**
 * Publishes the event log to one topic: each event at least once, and in the order of the log for every key. Of all
 * relays to a topic one is active. Its checkpoint only passes events that are acknowledged, or parked because the
 * brokers refuse them. After a crash or a missing acknowledgement, publishing starts again at the checkpoint.
 */
@Injectable()
export class EventRelay implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger('event-relay');
  private readonly reader: LogReader;
  private readonly topicCheck: TopicCheck;
  private publisher: TopicPublisher | undefined;
  private queue: PublishQueue | undefined;
  private readonly timers: NodeJS.Timeout[] = [];

  constructor(
    @Inject(Pool) private readonly pool: Pool,
    log: EventLog,
    probes: HealthProbes,
    private readonly client: KafkaClient,
    private readonly topic: TopicSettings,
    private readonly groupPrefix = '',
  ) {
    this.topicCheck = new TopicCheck(topic.topic);
    this.reader = new LogReader({
      pool,
      log,
      startFrom: 'beginning',
      name: relayCheckpoint(topic.topic),
      wants: () => true,
      open: (session) => this.open(session),
      passes: (error) => error instanceof KafkaAway || error instanceof TopicUnfit || error instanceof LogTakenBack,
    });
    // eslint-disable-next-line @typescript-eslint/require-await -- a probe is a promise; this one knows at once
    probes.add('live', 'relay', async () => this.reader.assertProgress(stalledMs));
    // eslint-disable-next-line @typescript-eslint/require-await -- as above
    probes.add('ready', 'relay', async () => {
      const { status } = this.reader.progress();
      if (status !== 'active' && status !== 'standBy') throw new Error(`The relay is ${status}`);
    });
    probes.add('ready', 'database', () => pool.query('SELECT 1'));
    measured = this.reader;
  }

  progress(): LogProgress {
    return this.reader.progress();
  }

  onApplicationBootstrap(): void {
    const parked = new ParkedMessages((text, values) => this.pool.query(text, values));
    const group = parkingGroup(this.topic.topic);
    measure(group, { behind: () => undefined, parked: () => parked.count(group) });
    this.timers.push(setInterval(() => this.queue?.redrive(), redriveMs));
    this.timers.push(setInterval(() => void this.lookAtTopic(), topicCheckMs));
    this.reader.start();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.timers.forEach(clearInterval);
    measureNoMore(parkingGroup(this.topic.topic));
    await this.reader.close();
    await this.publisher?.close();
  }

  private async open({ after, query, lose }: LogSession): Promise<PublishQueue> {
    const { topic } = this.topic;
    const { partitions, empty } = await this.ensureTopic();
    await this.assertOfThisLog(query);
    // The topic was deleted or belongs to another cluster, so what was published is lost.
    if (after > 0 && empty) this.logger.warn(`${topic} is empty: the whole log is published to it again`);
    // A producer that has failed does not know which records have arrived, so it is replaced.
    await this.publisher?.close();
    /** The time since which events are new, in milliseconds since the epoch: those before it fill an empty topic. */
    const newSince = empty ? Date.now() : 0;
    const publisher = (this.publisher = new TopicPublisher(this.client, topic, partitions));
    await publisher.open();
    this.logger.log(`Publishes to ${topic}, which has ${partitions} partitions`);
    return (this.queue = new PublishQueue({
      after: empty ? 0 : after,
      refused: await RefusedEvents.open(query, topic, empty),
      send: async (events) => {
        const done = publishSeconds.startTimer();
        await sendTraced(events, topic, (traced) => publisher.send(traced));
        done();
        published.inc(events.length);
        const now = Date.now();
        for (const { timestamp } of events)
          if (timestamp >= newSince) delaySeconds.observe(Math.max(0, now - timestamp) / 1_000);
      },
      broken: lose,
    }));
  }

  /** @throws {LogTakenBack} with an alarm for an operator, who has to act. */
  private async assertOfThisLog(query: LogSession['query']): Promise<void> {
    const { topic } = this.topic;
    const group = `${this.groupPrefix}event-relay-${Date.now()}`;
    const setting = 'log';
    try {
      await assertNotTakenBack({ query, client: this.client, topic, group });
      topicFault.remove({ topic, setting });
    } catch (error) {
      if (!(error instanceof LogTakenBack)) throw error;
      topicFault.set({ topic, setting }, 1);
      this.logger.error(error.message);
      throw error;
    }
  }

  private async ensureTopic(): Promise<{ partitions: number; empty: boolean }> {
    const admin = await this.client.admin();
    try {
      const partitions = await admin.ensureTopic(this.topic);
      await this.topicCheck.run(admin);
      const ends = await admin.ends(this.topic.topic);
      return { partitions, empty: [...ends.values()].every((end) => end === 0) };
    } finally {
      await admin.close();
    }
  }

  /** Looks at the settings of the topic while the relay is active, since others may alter them. */
  private async lookAtTopic(): Promise<void> {
    if (this.reader.progress().status !== 'active') return;
    try {
      const admin = await this.client.admin();
      await this.topicCheck.run(admin).finally(() => admin.close());
    } catch (error) {
      this.logger.warn(`The settings of ${this.topic.topic} could not be looked at: ${(error as Error).message}`);
    }
  }
}

/** The reader of this process, for the gauge. */
let measured: LogReader | undefined;

queriedGauge(
  {
    name: 'sendmux_relay_behind',
    help: 'How far the relay is behind the log, in positions, whether it can publish or not; absent of a stand-by',
    labelNames: [],
  },
  async () => {
    const value = await measured?.behind();
    return value === undefined ? [] : [{ labels: {}, value }];
  },
);
