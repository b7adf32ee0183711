export { DohClient, type DohOptions } from './doh-client';
export type { DnsAnswer, MxRecord, SoaRecord } from './dns-message';
