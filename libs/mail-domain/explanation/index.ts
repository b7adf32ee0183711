export { clueQuestions, noClues, spfWalk, wildcardProbe, type ClueQuestions, type Clues } from './clues';
export * from './explain';
