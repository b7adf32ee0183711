import type { AppToLoad } from '@app/process';

/** The apps of the product, each of which is loaded when it starts. */
const apps: readonly AppToLoad[] = [
  { name: 'event-relay', load: async () => (await import('../event-relay/app.js')).eventRelay },
  { name: 'gateway', load: async () => (await import('../gateway/app.js')).gateway },
  { name: 'provisioning', load: async () => (await import('../provisioning/app.js')).provisioning },
  {
    name: 'verification-scheduler',
    load: async () => (await import('../verification-scheduler/app.js')).verificationScheduler,
  },
  { name: 'notifier', load: async () => (await import('../notifier/app.js')).notifier },
  { name: 'sealer', load: async () => (await import('../sealer/app.js')).sealer },
  { name: 'webhooks', load: async () => (await import('../webhooks/app.js')).webhooks },
  { name: 'sender-policy', load: async () => (await import('../sender-policy/app.js')).senderPolicy },
];

/** Those that have nothing to do unless something outside is set up for them. */
const onlyWhenNamed = ['sender-policy'];

/** Thrown where an app is named that there is none of; the message lists them. */
export class NoSuchApp extends Error {
  override readonly name = 'NoSuchApp';
}

/**
 * Gives the apps of a small installation.
 *
 * @param names those that are wanted; where there are none: all that have something to do.
 * @param isOnKafka whether the events go over Kafka, which is when the relay has something to do.
 * @throws {NoSuchApp}
 */
export function appsOf(names: readonly string[], isOnKafka: boolean): readonly AppToLoad[] {
  const unknown = names.find((name) => !apps.some((app) => app.name === name));
  if (unknown !== undefined)
    throw new NoSuchApp(`There is no app ${unknown}. Name some of: ${apps.map(({ name }) => name).join(', ')}.`);
  if (names.length > 0) return apps.filter(({ name }) => names.includes(name));
  const idle = [...onlyWhenNamed, ...(isOnKafka ? [] : ['event-relay'])];
  return apps.filter(({ name }) => !idle.includes(name));
}
