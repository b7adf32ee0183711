import type { Connection } from '@app/database';
import { Epochs, readEpochs, type EventLog } from '@app/event-store';
import {
  fromCloudEvent,
  noteTimeline,
  readTopic,
  relayCheckpoint,
  timelines,
  type KafkaClient,
  type LogSession,
} from '@app/messaging';

/** Thrown when the topic has events that the log has not, since its database was taken back. Nothing is published. */
export class LogTakenBack extends Error {
  override readonly name = 'LogTakenBack';
}

export interface TakenBackCheck {
  readonly query: LogSession['query'];
  readonly log: Pick<EventLog, 'head'>;
  readonly client: KafkaClient;
  readonly topic: string;
  /** A group of this check alone. */
  readonly group: string;
}

/** Records of each partition that are looked at: replays may come after the newest event. */
const lastRecords = 100;

/**
 * Compares the end of a topic with the log where the server is on another timeline than when it was last published to:
 * the database was restored, or a stand-by was promoted, which may have lost its last events.
 *
 * @throws {LogTakenBack} when the topic has events which the log has not, and that are not void.
 * @throws {KafkaAway}
 */
export async function assertNotTakenBack({ query, log, client, topic, group }: TakenBackCheck): Promise<void> {
  const database = { query } as Pick<Connection, 'query'>;
  const name = relayCheckpoint(topic);
  const { now, noted } = await timelines(database, name);
  if (now === noted) return;
  if (noted !== null) {
    const epochs = new Epochs(await readEpochs(database));
    const head = await log.head();
    let newest = 0;
    await readTopic(client, {
      topic,
      group,
      last: lastRecords,
      take: (messages) => {
        for (const message of messages) {
          const event = eventOf(message);
          if (event && !epochs.isVoid(event)) newest = Math.max(newest, event.position);
        }
      },
    });
    if (newest > head)
      throw new LogTakenBack(
        `${topic} has events up to position ${newest}, and the log ends at ${head}: its database was taken back. Nothing is published. Stop all apps, and run \`sendmux restore\``,
      );
  }
  await noteTimeline(database, name, now);
}

function eventOf(message: Parameters<typeof fromCloudEvent>[0]) {
  try {
    return fromCloudEvent(message);
  } catch {
    return undefined;
  }
}
