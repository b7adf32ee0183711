export { batchLength } from './batches';
export * from './checkpoints';
export * from './consume-events';
export * from './event-consumer';
export { stalledMs } from './event-transport';
export {
  asPublishedBy,
  fromCloudEvent,
  toCloudEvent,
  type CloudEvent,
  type DeliveredEvent,
  type ReceivedMessage,
} from './cloud-event';
export * from './cloud-event-line';
export * from './kafka-client';
export * from './kafka-driver';
export { KafkaAway, RecordRefused } from './kafka-errors';
export * from './kafka-settings';
export * from './kafka-transport';
export * from './kept-offsets';
export * from './log-reader';
export * from './log-transport';
export * from './migrations';
export * from './read-topic';
export * from './replays';
export * from './topic-check';
export * from './topic-publisher';
export { describeError } from './describe-error';
export { consumerMetrics, measure, measureNoMore } from './metrics';
export {
  alignParkedEvents,
  nameParkedEvents,
  parkedEvent,
  ParkedMessages,
  type ParkedMessage,
  type Query,
  type RawMessage,
} from './parked-messages';
