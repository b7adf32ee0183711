export { DohClient, type DohOptions } from './doh-client';
export type { DnsAnswer, DnsEvidence, MxRecord, SoaRecord } from './dns-message';
