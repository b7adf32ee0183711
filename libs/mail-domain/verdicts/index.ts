export { judge, type DkimAnswer, type DnsAnswers, type Expected } from './judge';
export type { Answer, MxRr, TxtRr } from './quorum';
