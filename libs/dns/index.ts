export { DohClient, type DohOptions } from './doh-client';
export type { DnsAnswer, MxRecord } from './dns-message';
