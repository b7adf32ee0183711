import type { Connection } from '@app/database';
import { Epochs, notInLog, readEpochs } from '@app/event-store';
import {
  noteTimeline,
  readLastEvents,
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
  readonly client: KafkaClient;
  readonly topic: string;
  /** A group of this check alone. */
  readonly group: string;
}

/**
 * Compares the end of a topic with the log where the server has started, or is another one, since it was last published
 * to: the database may have been restored, or a stand-by promoted that has not got the last events. Other apps may have
 * recorded new ones since, so what is compared is each event, and not how far the log goes.
 *
 * @throws {LogTakenBack} when the topic has events which the log has not, and that are not void.
 * @throws {KafkaAway}
 */
export async function assertNotTakenBack({ query, client, topic, group }: TakenBackCheck): Promise<void> {
  const database = { query } as Pick<Connection, 'query'>;
  const name = relayCheckpoint(topic);
  const { now, noted } = await timelines(database, name);
  if (now === noted) return;
  if (noted !== null) {
    const epochs = new Epochs(await readEpochs(database));
    const last = (await readLastEvents(client, topic, group)) ?? [];
    const lost = await notInLog(
      database,
      last.filter((event) => !epochs.isVoid(event)),
    );
    if (lost[0])
      throw new LogTakenBack(
        `${topic} has events from position ${lost[0].position} on that the log has not: its database was taken back. Nothing is published. Stop all apps, and run \`sendmux restore\``,
      );
  }
  await noteTimeline(database, name, now);
}
